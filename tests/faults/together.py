"""Several Pants at once, in clones of their own, on the caches of one user.

    PYTHONPATH=.:src $(build-support/test-python) -m tests.faults.together [--rounds=N] [--seed=S] [--work=DIRECTORY]

Each round begins with an empty store of unpacked layers and without the images, and builds the same image in two clones, then
different ones, then in three clones of which one is killed; with and without pantsd in turn. All that are not killed must
give the images that another clone with other caches gives. Exit status 1 if one does not. Needs root.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO, Dict, List, Sequence, Tuple

from tests.faults import processes
from tests.faults.place import IMAGE, SLOW_START, Place, add_options, copy_store, verify, work_directory

_NONCES = ("first", "second", "third")


class Together:
    """`work`: an empty directory; `store`: a Pants store in which the base may be."""

    def __init__(self, work: Path, store: Path) -> None:
        self._caches = work / "caches"
        self._saved = work / "saved-cache"
        self._right: Dict[str, str] = {}
        copy_store(store, work / "reference/caches/lmdb_store")
        self._reference = Place(work / "reference")
        self.places = [Place(work / f"clone{number}", self._caches) for number in range(3)]
        pants = self._reference.pants(False)
        pants.run("package", IMAGE)
        copy_store(self._reference.lmdb_store, self._caches / "lmdb_store")
        shutil.copytree(self._reference.lmdb_store / "cache", self._saved)
        for nonce in _NONCES:
            self._reference.project.change(nonce)
            pants.run("package", IMAGE)
            self._right[nonce] = self._reference.image()
        self._reference.empty_sandboxes()

    def _forget(self) -> None:
        for place in self.places:
            place.pants(True).stop()
            place.empty_sandboxes()
            place.forget_image()
        shutil.rmtree(self._caches / "lmdb_store/cache")
        shutil.copytree(self._saved, self._caches / "lmdb_store/cache")
        shutil.rmtree(self.places[0].layers, ignore_errors=True)

    def build(self, nonces: Sequence[str], pantsd: bool, kill_after: float = 0) -> List[str]:
        """Build one image in each of the first clones at once; what was wrong. `kill_after`: the last one is killed, with all
        that it has started, after so many seconds, and then builds again."""
        self._forget()
        running = []
        for place, nonce in zip(self.places, nonces):
            place.project.change(nonce)
            log = open(place.top / "log", "w+b")
            running.append((place, nonce, place.pants(pantsd).start("package", IMAGE, output=log), log))
        if kill_after:
            place, nonce, client, log = running[-1]
            time.sleep(kill_after)
            processes.kill([*processes.working_below(place.top), *processes.tool_processes(place.sandboxes)])
            client.wait()
            running[-1] = (place, nonce, place.pants(pantsd).start("package", IMAGE, output=log), log)
        problems = []
        for place, nonce, client, log in running:
            status, said = _wait(client, log)
            if status != 0 and SLOW_START in said:
                client = place.pants(pantsd).start("package", IMAGE, output=log)
                status, said = _wait(client, log)
            if status != 0:
                problems.append(f"{place.top.name} ended with {status}: {said[-3000:]}")
            elif place.image() != self._right[nonce]:
                problems.append(f"{place.top.name} gave {place.image()}, not {self._right[nonce]}")
            log.close()
        left = processes.left_in_store(self.places[0].layers)
        return problems + ([f"left: {', '.join(left)}"] if left else [])

    def end(self) -> List[str]:
        """Verifies all unpacked layers first."""
        try:
            return verify(self.places[0].layers, sys.executable)
        finally:
            for place in (self._reference, *self.places):
                place.end()


def _wait(client: "subprocess.Popen[bytes]", log: BinaryIO) -> Tuple[int, str]:
    """The exit status, and all that was said."""
    try:
        status = client.wait(900)
    except subprocess.TimeoutExpired:
        client.send_signal(signal.SIGKILL)
        status = client.wait()
    log.seek(0)
    return status, log.read().decode(errors="replace")


def run(work: Path, store: Path, rounds: int, seed: int, daemons: Sequence[bool] = (False, True)) -> List[str]:
    """What was wrong; one line for each build goes to standard error. daemons: with or without pantsd."""
    chance = random.Random(seed)
    together = Together(work, store)
    problems: List[str] = []
    try:
        for number in range(rounds):
            for pantsd in daemons:
                for what, nonces, kill_after in (
                    ("the same image twice", ("first", "first"), 0.0),
                    ("two images", ("first", "second"), 0.0),
                    ("three images, one killed", _NONCES, chance.uniform(1, 12)),
                ):
                    found = together.build(nonces, pantsd, kill_after)
                    told = "; ".join(found) or "right"
                    print(f"round {number}, {'with' if pantsd else 'without'} pantsd, {what}: {told}", file=sys.stderr)
                    problems += found
    finally:
        problems += together.end()
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.faults.together", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how many (default: 1, six builds)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="another number kills at other moments")
    add_options(parser)
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("error: processes of others are looked at, which needs root", file=sys.stderr)
        return 1
    with work_directory("together", options.work) as work:
        problems = run(work, options.store, options.rounds, options.seed)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
