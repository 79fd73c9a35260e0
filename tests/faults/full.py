"""Builds an image where one of the places that Pants writes to has little room left.

    PYTHONPATH=.:src $(build-support/test-python) -m tests.faults.full [--sizes=20] [--place=NAME ...] [--work=DIRECTORY]

For each place (Pants' store, the store of unpacked layers, the sandboxes, dist/, TMPDIR) so many amounts of room, from nothing
to enough. A run must give the right image, or end with status 1, without a traceback, and say which disk is full. The next run,
with room, must give the right image. Prints a line for each run, and a table; exit status 1 if anything was wrong. Needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from tests.faults.place import IMAGE, Place, add_options, copy_store, work_directory
from tests.support.checkout import CommandFailed

# What is enough for the image, in bytes.
ENOUGH = {"store": 12 << 20, "layers": 1 << 30, "sandboxes": 700 << 20, "dist": 320 << 20, "TMPDIR": 8 << 20}
_FULL = ("full", "No space left on device")
# Room of a disk beside what is on it and what is to be left.
_MARGIN = 64 << 20


class Full:
    """`work`: an empty directory; `store`: a Pants store in which the base may be."""

    def __init__(self, work: Path, store: Path) -> None:
        copy_store(store, work / "place/caches/lmdb_store")
        self.place = Place(work / "place")
        self._before, self._log = work / "before", work / "log"
        pants = self.place.pants(False)
        pants.run("package", IMAGE)
        # A store that has nothing yet of what is built on small disks.
        copy_store(self.place.lmdb_store, self._before)
        self.place.project.change("full")
        pants.run("package", IMAGE)
        self.right = self.place.image()
        self._forget()

    def _forget(self) -> None:
        """Have the image neither in dist/ nor in Pants' cache of processes."""
        self.place.empty_sandboxes()
        self.place.forget_image()
        shutil.rmtree(self.place.lmdb_store / "cache")
        shutil.copytree(self._before / "cache", self.place.lmdb_store / "cache")

    def build(self, name: str, room: int) -> Tuple[str, List[str]]:
        """Build with so much room, and then with enough: how the first run ended, and what was wrong."""
        child = replace(
            self.place.pants(False), prefix=["unshare", "--mount", "sh", "-ec", self._script(name, room), "sh"]
        )
        with open(self._log, "w+b") as log:
            # dist/ is seen by the run alone: whether its image is right, it says itself.
            status = child.start("package", IMAGE, output=log).wait(900)
            log.seek(0)
            told = log.read().decode(errors="replace")
        problems = []
        if "Traceback (most recent" in told:
            problems.append("a traceback")
        if status == 0:
            if f"manifest {self.right}" not in told:
                problems.append("another image, with status 0")
        elif status != 1 or not any(word in told for word in _FULL):
            problems.append(f"status {status}, and nothing of a full disk")
        self._forget()
        try:
            self.place.pants(False).run("package", IMAGE)
            if self.place.image() != self.right:
                problems.append("another image in the run after it")
        except CommandFailed as error:
            problems.append(f"the run after it failed: {error}")
        self._forget()
        if problems:
            print(told[-6000:], file=sys.stderr)
        return ("the image" if status == 0 else "an error"), problems

    def _script(self, name: str, room: int) -> str:
        """Commands that put a small disk in the place of a directory, for what comes after them."""
        if name == "TMPDIR":
            at = self.place.top / "tmp"
            at.mkdir(exist_ok=True)
            return f'mount -t tmpfs -o size={max(room, 4096)} none {at}; TMPDIR={at} exec "$@"'
        at = {
            "store": self.place.lmdb_store,
            "layers": self.place.layers,
            "sandboxes": self.place.sandboxes,
            "dist": self.place.project.root / "dist",
        }[name]
        at.mkdir(parents=True, exist_ok=True)
        if name != "store":
            return f'mount -t tmpfs -o size={max(room, 4096)} none {at}; exec "$@"'
        used = sum(path.stat().st_blocks * 512 for path in self._before.rglob("*"))
        copy = f"mount -t tmpfs -o size={used + _MARGIN} none {at}; cp -a --sparse=always {self._before}/. {at}/"
        fill = f"free=$(df -B1 --output=avail {at} | tail -n 1); fallocate -l $((free - {room})) {at}/filler"
        return f'{copy}; {fill}; exec "$@"'

    def end(self) -> None:
        self.place.end()


def run(work: Path, store: Path, sizes: int, names: Sequence[str]) -> List[str]:
    """What was wrong; a line for each run and a table go to standard output."""
    full = Full(work, store)
    problems: List[str] = []
    table: Dict[str, Counter[str]] = {}
    try:
        for name in names:
            for number in range(sizes):
                room = ENOUGH[name] * number // max(1, sizes - 1) // 4096 * 4096
                ended, wrong = full.build(name, room)
                print(f"{name}, {room:,} bytes: {ended}: {'; '.join(wrong) or 'right'}", flush=True)
                table.setdefault(name, Counter())[ended] += 1
                problems += [f"{name}, {room:,} bytes: {problem}" for problem in wrong]
    finally:
        full.end()
    for name, counts in table.items():
        print(f"{name}: " + ", ".join(f"{ended} {count} times" for ended, count in sorted(counts.items())))
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.faults.full", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--sizes", type=int, default=20, metavar="N", help="amounts of room for each place (20)")
    parser.add_argument("--place", action="append", choices=sorted(ENOUGH), help="only this one; may be given again")
    add_options(parser)
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("error: small disks are mounted, which needs root", file=sys.stderr)
        return 1
    with work_directory("full", options.work) as work:
        problems = run(work, options.store, options.sizes, options.place or list(ENOUGH))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
