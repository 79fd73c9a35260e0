"""Writers of one layout directory at once, and writers that are killed: what survives, in numbers.

    PYTHONPATH=src:. $(build-support/test-python) bench/shared_layout.py [--rounds 10] [--kills 100] [--seed N]

Baseline, in the same run: the same images added by one writer. Needs skopeo and umoci. Small images: no time is spent on
bytes, so that writers meet at the lock as often as they can. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from tests.support.layout_stress import Killing, concurrent_round, make_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--directory", help="on the file system to try; default: the one of temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shared-layout-", dir=options.directory) as name:
        work = Path(name)
        images = make_images(work / "images", 40, 2_000)
        start = time.monotonic()
        assert concurrent_round(work / "one", images, 1) == 40
        alone = time.monotonic() - start
        entries, seconds = [], []
        for number in range(options.rounds):
            start = time.monotonic()
            entries.append(concurrent_round(work / f"round-{number}" / "layout", images, 8))
            seconds.append(time.monotonic() - start)
            print(f"round {number + 1}: {entries[-1]} of 40 entries, {seconds[-1]:.2f} s (one writer: {alone:.2f} s)")
        (work / "kill").mkdir()
        killing = Killing(work / "kill" / "layout", make_images(work / "large", 40, 300_000), options.seed)
        killing.run(options.kills)
        print(
            f"{killing.kills} of 20 concurrent publishers killed (seed {options.seed}), {len(killing.published)} tags "
            f"reported and there, {killing.killed_but_there} more of killed ones, {killing.collections} collections "
            f"beside them; layout valid after every kill; {killing.seconds:.0f} s"
        )
        result = {
            "entries": entries,
            "seconds": [round(value, 3) for value in seconds],
            "one_writer_seconds": round(alone, 3),
            "kills": killing.kills,
            "published": len(killing.published),
            "killed_but_there": killing.killed_but_there,
            "collections": killing.collections,
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
