"""The image after a change: of a leaf, of a package in the middle of the graph, of the base.

The change is one in a lockfile: a message in the package's opam file, which its layer holds, so that the layer and all
above it are others; a .deb more in the base. All sources are at hand and pantsd runs.

Baseline: the same image from nothing, with the same sources at hand. (For the base that is what a change of it is to cost.)
"""

from __future__ import annotations

import time
from typing import Callable, List

from bench.examples import change_base, change_package
from bench.figures import Row
from bench.session import Session, counters, median, say
from tests.support.checkout import CommandFailed


def run(session: Session) -> List[Row]:
    built, example = session.built(), session.example
    pants, cold = built.pants, built.seconds
    locks = [pants.root / name for name in (example.opam_lock_file, example.debian_lock_file, "3rdparty/debian/BUILD")]
    texts = [path.read_text() for path in locks]
    rows: List[Row] = []

    def measure(what: str, change: Callable[[str], None], repeat: int) -> None:
        samples, processes = [], 0
        for number in range(repeat):
            change(f"changed {time.time_ns()} {number}")
            time.sleep(3)  # pantsd learns of changes a moment later
            say(f"{what} ...")
            begin = time.perf_counter()
            done = pants.run("--stats-log", "package", example.address)
            samples.append(time.perf_counter() - begin)
            processes = counters(done.stderr).get("local_execution_requests", 0)
            for path, text in zip(locks, texts):
                path.write_text(text)
            if not processes:
                raise CommandFailed(f"{what}: nothing was built, the change was not seen")
        details = {"samples": samples, "processes": processes}
        subject = f"{what}, {processes} processes"
        rows.append(Row("change", subject, median(samples), "the image from nothing", cold, details=details))

    try:
        leaf, middle = example.leaf, example.middle
        measure(f"leaf {leaf}", lambda word: change_package(pants.root, example, leaf, word), min(3, session.repeat))
        measure(f"middle {middle}", lambda word: change_package(pants.root, example, middle, word), 1)
        measure(f"base with {example.more[0]}", lambda word: change_base(pants.root, example), 1)
    finally:
        for path, text in zip(locks, texts):
            path.write_text(text)
        time.sleep(3)
        pants.run("package", example.address)
    return rows
