"""Kills builds at random moments, and looks whether the next run notices none of it.

    PYTHONPATH=. $(build-support/test-python) -m tests.faults.kills [--kills=200] [--seed=1] [--work=DIRECTORY]

Each kill is of a run of `./pants package` that builds two small packages, the state of their image and the image, and every
third time unpacks all layers into an empty store. Killed is, at a random moment, a process of the sandbox tool, pantsd, the
client, or all of them. The next run, with nothing killed, must give the image that another clone with other caches gives,
and nothing of the killed run may be left: no scratch directories and records, no mounts, no processes.

The base is not killed, and not built anew: it comes from the caches of this user, where it is. Prints a table of what became
of the killed runs, and the kills after which something was wrong; exit status 1 if there are any. Needs root.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from opam_sandbox.files import file_sha256
from tests.faults import processes
from tests.faults.small_project import SmallProject
from tests.support.checkout import CommandFailed, Pants, tool

VICTIMS = ("tool", "pantsd", "client", "all")
# So many images are built in turn. In between, Pants' cache of processes is what it was before the first of them.
NONCES = 6
_PATIENCE = 120


def user_store() -> Path:
    """Where Pants keeps what this user's runs made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pants/lmdb_store"


@dataclass
class Place:
    """A clone, and caches and sandboxes of its own. `store`: Pants' store to begin with a copy of; nobody may write to it."""

    top: Path
    store: Path
    project: SmallProject = field(init=False)

    def __post_init__(self) -> None:
        self.caches.mkdir(parents=True)
        if self.store.exists():
            tool("cp", "--archive", "--sparse=always", str(self.store), str(self.lmdb_store))
        self.sandboxes.mkdir()
        self.project = SmallProject.make(self.top / "main")

    @property
    def lmdb_store(self) -> Path:
        return self.caches / "lmdb_store"

    @property
    def caches(self) -> Path:
        return self.top / "caches"

    @property
    def sandboxes(self) -> Path:
        return self.top / "sandboxes"

    @property
    def layers(self) -> Path:
        return self.caches / "named_caches/opam_oci_layers"

    def pants(self, pantsd: bool) -> Pants:
        options = [f"--local-execution-root-dir={self.sandboxes}", *([] if pantsd else ["--no-pantsd"])]
        return Pants(self.project.root, caches=self.caches, options=options)

    def image(self) -> str:
        """The digest of the image in dist/, all blobs of which are compared with their names. Raises CommandFailed."""
        for blob in (self.project.layout.path / "blobs/sha256").iterdir():
            if file_sha256(blob)[0] != blob.name:
                raise CommandFailed(f"{blob} is not what its name says")
        return self.project.digest()

    def end(self) -> None:
        self.pants(True).stop()
        shutil.rmtree(self.top, ignore_errors=True)


@dataclass(frozen=True)
class Kill:
    """One to be: whom, after how many seconds, with which image, whether pantsd runs, and whether the store is empty."""

    number: int
    victim: str
    after: float
    nonce: str
    pantsd: bool
    empty: bool


@dataclass
class Outcome:
    """hit: how many processes were killed; ended: how the killed run did; problems: what was wrong afterwards."""

    kill: Kill
    hit: int
    ended: str
    problems: List[str]


class Kills:
    """`work`: an empty directory; `store`: a Pants store in which the base may be; `nonces`: one for each image."""

    def __init__(self, work: Path, store: Path, nonces: List[str]) -> None:
        self._saved = work / "saved-cache"
        self.right: Dict[str, str] = {}
        self._seconds: Dict[bool, float] = {}
        self.places = [Place(work / "reference", store)]
        self._build_ground()
        self.places.append(Place(work / "killed", self.places[0].lmdb_store))
        self._build_right(nonces)
        self._measure()

    @property
    def place(self) -> Place:
        return self.places[1]

    def _build_ground(self) -> None:
        """Have the base, and what a first image brings along."""
        self.places[0].pants(False).run("package", "small:image")
        shutil.copytree(self.places[0].lmdb_store / "cache", self._saved)

    def _build_right(self, nonces: List[str]) -> None:
        """The images' digests."""
        place = self.places[0]
        pants = place.pants(True)
        for nonce in nonces:
            place.project.change(nonce)
            pants.run("package", "small:image")
            self.right[nonce] = place.image()
        pants.stop()

    def _measure(self) -> None:
        """How long a run takes."""
        for pantsd in (False, True):
            self.place.project.change(f"of no interest {pantsd}")
            start = time.monotonic()
            self.place.pants(pantsd).run("package", "small:image")
            self._seconds[pantsd] = time.monotonic() - start

    def forget(self) -> None:
        """Have everything but the base be built again."""
        self.place.pants(True).stop()
        shutil.rmtree(self.place.lmdb_store / "cache")
        shutil.copytree(self._saved, self.place.lmdb_store / "cache")

    @property
    def seconds(self) -> Dict[bool, float]:
        """How long a run takes that nobody kills, without and with pantsd."""
        return self._seconds

    def run(self, kill: Kill) -> Outcome:
        """Build, kill, build again."""
        place, project = self.place, self.place.project
        if kill.empty and place.layers.exists():
            shutil.rmtree(place.layers)
        shutil.rmtree(project.root / "dist", ignore_errors=True)
        before = processes.mounts()
        project.change(kill.nonce)
        pants = place.pants(kill.pantsd)
        hit, status, said = self._killed_run(pants, kill)
        problems: List[str] = []
        if status == 0 and place.image() != self.right[kill.nonce]:
            problems.append("the run that was to be killed gave another image, with exit status 0")
        if status > 0 and "Traceback" in said and "opam_sandbox" in said:
            problems.append(f"the killed run ended with a traceback of the tool: {said[-1500:]}")
        ended = "as if nothing had been" if status == 0 else f"status {status}" if status > 0 else "killed itself"
        again = pants.run("package", "small:image", check=False)
        if again.returncode != 0:
            problems.append(f"the next run ended with {again.returncode}: {again.stderr[-3000:]}")
        elif place.image() != self.right[kill.nonce]:
            problems.append(f"the next run gave {place.image()}, not {self.right[kill.nonce]}")
        problems += self._left(before)
        return Outcome(kill, hit, ended, problems)

    def _killed_run(self, pants: Pants, kill: Kill) -> Tuple[int, int, str]:
        """How many processes were killed, the client's exit status, and what it said."""
        with tempfile.TemporaryFile() as log:
            client = pants.start("package", "small:image", output=log)
            hit = 0
            deadline = time.monotonic() + kill.after
            while time.monotonic() < deadline and client.poll() is None:
                time.sleep(0.01)
            while client.poll() is None and not hit:
                hit = processes.kill(self._victims(kill, pants, client.pid))
                if not hit:
                    time.sleep(0.01)  # the tool is not at work
            try:
                status = client.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()
                raise CommandFailed(f"{kill}: the client goes on for ever") from None
            log.seek(0)
            return hit, status, log.read().decode(errors="replace")

    def _victims(self, kill: Kill, pants: Pants, client: int) -> List[int]:
        # Chosen by the kill's number, so that a seed says which.
        working = processes.tool_processes(self.place.sandboxes)
        if kill.victim == "tool":
            return [working[kill.number % len(working)]] if working else []
        daemons = sorted(pants.daemons())
        if kill.victim == "pantsd":
            return daemons
        return [client] if kill.victim == "client" else [client, *daemons, *working]

    def _left(self, before: "set[str]") -> List[str]:
        """What is there of killed processes, after a moment for those that are about to end."""
        deadline = time.monotonic() + 10
        while True:
            found = {
                "process": [str(pid) for pid in processes.tool_processes(self.place.sandboxes)],
                "mount": sorted(processes.mounts() - before),
                "in the store": processes.left_in_store(self.place.layers),
                "scratch": processes.left_in_sandboxes(self.place.sandboxes),
            }
            listed = [f"left: {what}: {', '.join(names)}" for what, names in found.items() if names]
            if not listed or time.monotonic() > deadline:
                return listed
            time.sleep(0.2)

    def verify(self) -> List[str]:
        """Read every unpacked layer."""
        argv = [sys.executable, "-m", "opam_sandbox.publishing", "verify", str(self.place.layers)]
        done = tool(*argv, check=False)
        return [] if done.returncode == 0 else [f"verify: {done.stdout}{done.stderr}"]

    def end(self) -> None:
        for place in self.places:
            place.end()


def plan(
    count: int, seed: int, victims: Sequence[str], nonces: Sequence[str], seconds: Dict[bool, float]
) -> List[Kill]:
    """What is killed when: the same for the same seed, but for how long a run takes on this machine."""
    chance = random.Random(seed)
    kills = []
    for number in range(count):
        victim = victims[number % len(victims)]
        pantsd = victim == "pantsd" or chance.random() < 0.7
        after = chance.uniform(0, 0.95 * seconds[pantsd])
        kills.append(Kill(number, victim, after, nonces[number % len(nonces)], pantsd, chance.random() < 1 / 3))
    return kills


def run(work: Path, store: Path, count: int, seed: int, victims: Sequence[str] = VICTIMS) -> List[Outcome]:
    """Do it; one line for each kill goes to standard error."""
    nonces = [f"image {number}" for number in range(min(count, NONCES))]
    kills = Kills(work, store, nonces)
    outcomes = []
    try:
        for kill in plan(count, seed, victims, nonces, kills.seconds):
            if kill.number % len(nonces) == 0:
                kills.forget()
            outcome = kills.run(kill)
            outcomes.append(outcome)
            told = "; ".join(outcome.problems) or "right"
            print(f"{kill} hit {outcome.hit}, {outcome.ended}; {told}", file=sys.stderr, flush=True)
        outcomes[-1].problems += kills.verify()
    finally:
        kills.end()
    return outcomes


def table(outcomes: List[Outcome]) -> str:
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
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.faults.kills", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="another number kills at other moments")
    parser.add_argument(
        "--victim", action="append", choices=VICTIMS, help="whom to kill (repeatable; default: all four in turn)"
    )
    parser.add_argument(
        "--store",
        type=Path,
        default=user_store(),
        metavar="DIRECTORY",
        help="Pants' store to take the base from; no Pants may be at work in it (default: this user's)",
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIRECTORY", help="an empty directory (default: one below /var/tmp)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes to this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("error: mounts and processes of others are looked at, which needs root", file=sys.stderr)
        return 1
    work = Path(tempfile.mkdtemp(prefix="opam-oci-kills-", dir=options.work or "/var/tmp"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(work)
    try:
        outcomes = run(work, options.store, options.kills, options.seed, options.victim or VICTIMS)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(table(outcomes))
    if options.json:
        options.json.write_text(json.dumps([{**vars(o), "kill": vars(o.kill)} for o in outcomes], indent=1) + "\n")
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
