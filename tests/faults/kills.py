"""Kills builds at random moments, and looks whether the next run notices none of it.

    PYTHONPATH=.:src $(build-support/test-python) -m tests.faults.kills [--kills=200] [--seed=1] [--work=DIRECTORY]

Each kill is of a run of `./pants package` that builds two small packages, the state of their image and the image, and every
third time unpacks all layers into an empty store. Killed is, at a random moment, a process of the sandbox tool, pantsd, the
client, or all of them. The next run, with nothing killed, must give the image that another clone with other caches gives,
and nothing of the killed run may be left: no scratch directories and records, no mounts, no processes.

The base is not killed, and not built anew: it comes from the Pants store of this user, if that has it. Prints a table of what
became of the killed runs; exit status 1 if anything was wrong after a kill. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from tests.faults import processes
from tests.faults.place import IMAGE, SLOW_START, Place, add_options, copy_store, verify, work_directory
from tests.support.checkout import CommandFailed, Pants

VICTIMS = ("tool", "pantsd", "client", "all")
# So many images are built in turn. In between, Pants' cache of processes is what it was before the first of them.
NONCES = 8
_PATIENCE = 300


@dataclass(frozen=True)
class Kill:
    """One to be: whom, after which part of the time that a run takes, with which image, whether pantsd runs, and whether the
    store of unpacked layers is empty."""

    number: int
    victim: str
    part: float
    nonce: str
    pantsd: bool
    empty: bool


@dataclass
class Outcome:
    """hit: how many processes were killed, `after` so many seconds; ended: how the killed run did; problems: what was wrong
    with it, or afterwards."""

    kill: Kill
    hit: int
    after: float
    ended: str
    problems: List[str]


def plan(count: int, seed: int, victims: Sequence[str], nonces: Sequence[str], empty: float = 1 / 3) -> List[Kill]:
    """What is killed when: the same for the same seed. `empty`: which part of the runs has an empty store."""
    chance = random.Random(seed)
    kills = []
    for number in range(count):
        victim = victims[number % len(victims)]
        # A run without pantsd spends most of its time with Pants' own start.
        pantsd = victim == "pantsd" or chance.random() < 0.8
        part = chance.random()
        kills.append(Kill(number, victim, part, nonces[number % len(nonces)], pantsd, chance.random() < empty))
    return kills


class Kills:
    """`work`: an empty directory; `store`: a Pants store in which the base may be; `nonces`: one for each image; `keep`:
    where to have a wrong image, and the right one, if that is wanted."""

    def __init__(self, work: Path, store: Path, nonces: Sequence[str], keep: Optional[Path] = None) -> None:
        self._keep = keep
        self._saved = work / "saved-cache"
        self.right: Dict[str, str] = {}
        # How long the last run took that nobody killed, by whether it had a daemon.
        self._seconds = {False: 10.0, True: 5.0}
        copy_store(store, work / "reference/caches/lmdb_store")
        self.reference = Place(work / "reference")
        self.place = Place(work / "killed")
        self._build_ground()
        self._build_right(nonces)

    def _build_ground(self) -> None:
        """Have the base in both stores, and what a first image brings along."""
        self.reference.pants(False).run("package", IMAGE)
        shutil.copytree(self.reference.lmdb_store / "cache", self._saved)
        copy_store(self.reference.lmdb_store, self.place.lmdb_store)

    def _build_right(self, nonces: Sequence[str]) -> None:
        """The images' digests."""
        pants = self.reference.pants(True)
        for nonce in nonces:
            self.reference.project.change(nonce)
            done = self._next_run(pants, pantsd=True)
            if done.returncode != 0:
                raise CommandFailed(f"an image that nobody disturbs is not built: {done.stderr[-3000:]}")
            self.right[nonce] = self.reference.image()
        pants.stop()
        self.reference.empty_sandboxes()

    def forget(self) -> None:
        """Have everything but the base be built again."""
        self.place.pants(True).stop()
        self.place.empty_sandboxes()
        shutil.rmtree(self.place.lmdb_store / "cache")
        shutil.copytree(self._saved, self.place.lmdb_store / "cache")

    def run(self, kill: Kill) -> Outcome:
        """Build, kill, build again."""
        place, right = self.place, self.right[kill.nonce]
        if kill.empty and place.layers.exists():
            shutil.rmtree(place.layers)
        place.forget_image()
        before = processes.mounts()
        place.project.change(kill.nonce)
        pants = place.pants(kill.pantsd)
        problems: List[str] = []
        hit, after, status, said = self._killed_run(pants, kill)
        if status == 0 and place.image() != right:
            problems.append("the run that was to be killed gave another image, with exit status 0")
            self._keep_images(kill)
        if status > 0 and "opam_sandbox" in said.partition("Traceback")[2]:
            problems.append(f"the killed run ended with a traceback: {said[-1500:]}")
        ended = "as ever" if status == 0 else f"with status {status}" if status > 0 else f"by signal {-status}"
        again = self._next_run(pants, kill.pantsd)
        if again.returncode != 0:
            problems.append(f"the next run ended with {again.returncode}: {again.stderr[-3000:]}")
        elif place.image() != right:
            problems.append(f"the next run gave {place.image()}, not {right}")
            self._keep_images(kill)
        problems += self._left(before)
        return Outcome(kill, hit, after, ended, problems)

    def _keep_images(self, kill: Kill) -> None:
        """Copy the wrong image and the right one, which has to be put together once more for that."""
        if self._keep is None:
            return
        for name, place in (("wrong", self.place), ("right", self.reference)):
            if name == "right":
                place.project.change(kill.nonce)
                place.pants(False).run("package", IMAGE)
            shutil.copytree(place.project.layout.path, self._keep / f"{kill.number}-{name}", dirs_exist_ok=True)

    def _killed_run(self, pants: Pants, kill: Kill) -> Tuple[int, float, int, str]:
        """How many processes were killed, after how many seconds, the client's exit status, and what it said."""
        with tempfile.TemporaryFile() as log:
            start = time.monotonic()
            client = pants.start("package", IMAGE, output=log)
            while time.monotonic() < start + kill.part * self._seconds[kill.pantsd] and client.poll() is None:
                time.sleep(0.005)
            hit = 0
            while client.poll() is None and not hit:
                hit = processes.kill(self._victims(kill, pants, client.pid))
                if not hit:
                    time.sleep(0.05)  # whom to kill is not at work yet
            after = time.monotonic() - start
            try:
                status = client.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()
                raise CommandFailed(f"{kill}: the client goes on for ever") from None
            log.seek(0)
            return hit, after, status, log.read().decode(errors="replace")

    def _next_run(self, pants: Pants, pantsd: bool) -> "subprocess.CompletedProcess[str]":
        for _ in range(3):
            start = time.monotonic()
            done = pants.run("package", IMAGE, check=False)
            if done.returncode == 0 or SLOW_START not in done.stderr:
                break  # Pants gives a daemon a minute to start, which on a busy machine may be too little
        # An empty store, or other work of the machine, makes one run last longer than those after it.
        self._seconds[pantsd] = min(time.monotonic() - start, 2 * self._seconds[pantsd])
        return done

    def _victims(self, kill: Kill, pants: Pants, client: int) -> List[int]:
        working = processes.tool_processes(self.place.sandboxes)
        if kill.victim == "tool":
            return [working[kill.number % len(working)]] if working else []
        daemons = sorted(pants.daemons())
        if kill.victim == "pantsd":
            return daemons
        return [client] if kill.victim == "client" else [client, *daemons, *working]

    def _left(self, before: "set[str]") -> List[str]:
        """What is there of killed processes, after a moment for those that are about to end."""
        deadline = time.monotonic() + 20
        while True:
            found = {
                "processes": [str(pid) for pid in processes.tool_processes(self.place.sandboxes)],
                "mounts": [line for line in sorted(processes.mounts() - before) if str(self.place.top) in line],
                "in the store": processes.left_in_store(self.place.layers),
                "scratch": processes.left_in_sandboxes(self.place.sandboxes),
            }
            listed = [f"left: {what}: {', '.join(names)}" for what, names in found.items() if names]
            if not listed or time.monotonic() > deadline:
                return listed
            time.sleep(0.2)

    def end(self) -> None:
        for place in (self.reference, self.place):
            place.end()


def run(
    work: Path,
    store: Path,
    count: int,
    seed: int,
    victims: Sequence[str] = VICTIMS,
    empty: float = 1 / 3,
    keep: Optional[Path] = None,
) -> List[Outcome]:
    """Do it; one line for each kill goes to standard error."""
    nonces = [f"image {number}" for number in range(min(count, NONCES))]
    kills = Kills(work, store, nonces, keep)
    outcomes = []
    try:
        for kill in plan(count, seed, victims, nonces, empty):
            if kill.number % len(nonces) == 0:
                kills.forget()
            outcome = kills.run(kill)
            outcomes.append(outcome)
            told = "; ".join(outcome.problems) or "right"
            print(
                f"{kill} hit {outcome.hit} after {outcome.after:.2f} s, ended {outcome.ended}: {told}", file=sys.stderr
            )
        outcomes[-1].problems += verify(kills.place.layers, sys.executable)
    finally:
        kills.end()
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Who was killed, how often, and how the runs ended."""
    lines = [f"{'killed':8}{'runs':>6}{'hit':>6}{'wrong':>7}  the killed runs ended"]
    for victim in VICTIMS:
        mine = [outcome for outcome in outcomes if outcome.kill.victim == victim]
        if mine:
            ended = Counter(outcome.ended for outcome in mine)
            hit = sum(outcome.hit > 0 for outcome in mine)
            wrong = sum(bool(outcome.problems) for outcome in mine)
            how = ", ".join(f"{text}: {times}" for text, times in sorted(ended.items()))
            lines.append(f"{victim:8}{len(mine):6}{hit:6}{wrong:7}  {how}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.faults.kills", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="another number kills at other moments")
    parser.add_argument("--victim", action="append", choices=VICTIMS, help="whom (repeatable; default: all in turn)")
    parser.add_argument(
        "--empty", type=float, default=1 / 3, metavar="PART", help="of the runs have an empty store (0.33)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="have wrong images here, and the right ones")
    add_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes to this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("error: mounts and processes of others are looked at, which needs root", file=sys.stderr)
        return 1
    with work_directory("kills", options.work) as work:
        victims = options.victim or VICTIMS
        outcomes = run(work, options.store, options.kills, options.seed, victims, options.empty, options.keep)
    print(table(outcomes))
    if options.json:
        options.json.write_text(json.dumps([{**vars(o), "kill": vars(o.kill)} for o in outcomes], indent=1) + "\n")
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
