"""Locks many roots in separate resolves in one command, against `opam install --dry-run` of each of them by hand.

    PYTHONPATH=src $(build-support/test-python) -m bench.lock_roots [--roots=100] [--by-hand=N]

Needs root, a snapshot of the opam-repository (tests/support/snapshot.py says how to name one), and the base in Pants' cache
(`./pants package //images:0install`, or any `generate-lockfiles` of an opam resolve over //3rdparty/debian:trixie).

Baseline, in the same run: the base's own opam in a plain overlay of the base, one `opam init` and then one
`opam install --dry-run` per root, in as many workers as there are cores. Both get the same roots: some programs of note, and
then packages that are in their solutions, in the order of their names' sha256.

Every lockfile is compared with opam's answer by hand: the same packages in the same versions. Prints a table and one line
of JSON; exit status 1 if any differs. Times in seconds of wall time, memory in MB: the largest sum of resident memory of
the processes that take part (by hand: of opam alone).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Set

from bench.scratch_project import ROOT, ScratchProject
from opam_sandbox.opam.switch import HOME, environment
from opam_sandbox.sandbox.namespaces import run_isolated
from opam_sandbox.sandbox.overlay import Overlay
from tests.support.snapshot import NoSnapshotError, find_snapshot, location, unpack

NAMED = ("0install=2.18", "0install-gtk=2.18", "ocluster=0.3.0", "utop", "ocamlformat", "js_of_ocaml", "liquidsoap")


def store() -> Path:
    caches = Path(os.environ.get("PANTS_NAMED_CACHES_DIR", Path.home() / ".cache/pants/named_caches"))
    return caches / "opam_oci_layers/v4/root/layers"


def bases() -> List[Path]:
    """The unpacked base without OCaml, and opam's root over it."""
    # The newest: those of earlier lockfiles are still there.
    layers = sorted(store().glob("*/root"), key=lambda path: path.stat().st_ctime)
    base = [p for p in layers if (p / "usr/bin/opam").exists() and not (p / "usr/bin/ocaml").exists()]
    root = [p for p in layers if (p / "home/opam/.opam/config").exists()]
    if not base or not root:
        sys.exit("there is no base in Pants' cache: see the head of this file")
    return [base[-1], root[-1]]


# By hand.


def worker(directory: Path) -> int:
    """One worker by hand: in `directory` it finds work.json, and writes answers.json."""
    work = json.loads((directory / "work.json").read_text())
    roots = work["roots"]

    def inside() -> int:
        os.chdir(directory)
        overlay = Overlay(bases(), Path("scratch"), False)
        answers: Dict[str, Any] = {}
        try:
            overlay.mount()
            (overlay.root / "tmp/repository").mkdir()
            overlay.bind(Path(work["repository"]), "tmp/repository")
            env = {**environment(1), "OPAMROOT": "/tmp/root", "OPAMSOLVERTIMEOUT": "600"}

            def opam(*arguments: str) -> "tuple[int, float]":
                start = time.perf_counter()
                with open("log", "wb") as log:
                    done = overlay.run(["opam", *arguments], env, log, user=True, cwd=f"/{HOME}")
                return done.returncode, time.perf_counter() - start

            init = opam("init", "--bare", "--no-setup", "--disable-sandboxing", "--kind=local", "o", "/tmp/repository")
            opam("switch", "create", "default", "--empty")
            for root in roots:
                arguments = ["install", "--dry-run", "--yes", "--no-depexts", "--json=/tmp/answer.json", root]
                status, _ = opam(*arguments)
                if status != 0:
                    print(f"{root}: {Path('log').read_text()[-2000:]}", file=sys.stderr)
                    return 1
                actions = json.loads((overlay.root / "tmp/answer.json").read_text())["solution"]
                answers[root] = {a["install"]["name"]: a["install"]["version"] for a in actions if "install" in a}
        finally:
            overlay.remove()
        Path("answers.json").write_text(json.dumps({"init": init[1], "answers": answers}))
        return 0

    return run_isolated(inside)


class Memory(threading.Thread):
    """Samples the resident memory of processes below `top()` (pids), as a sum; `peak` in MB."""

    def __init__(self, top: Any, only: str = "") -> None:
        super().__init__(daemon=True)
        self._top, self._only = top, only
        self.peak = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.3):
            self.peak = max(self.peak, self._sum())

    def _sum(self) -> float:
        parents: Dict[int, int] = {}
        resident: Dict[int, float] = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                stat = Path("/proc", entry, "stat").read_text()
                rest = stat.rpartition(")")[2].split()
                parents[int(entry)] = int(rest[1])
                if not self._only or f"({self._only})" in stat:
                    resident[int(entry)] = int(rest[21]) * 4096 / 1e6
            except (OSError, IndexError, ValueError):
                continue
        wanted: Set[int] = set(self._top())
        while True:
            more = {pid for pid, parent in parents.items() if parent in wanted} - wanted
            if not more:
                return sum(resident.get(pid, 0.0) for pid in wanted)
            wanted |= more


def by_hand(top: Path, snapshot: Path, roots: List[str], workers: int) -> Dict[str, Any]:
    """Seconds of wall time without the init's, and the answers."""
    top.mkdir()
    repository = unpack(snapshot, top / "repository")
    processes: "List[subprocess.Popen[bytes]]" = []
    memory = Memory(lambda: [p.pid for p in processes], only="opam")
    start = time.perf_counter()
    for number in range(workers):
        directory = top / f"worker{number}"
        directory.mkdir()
        work = {"roots": roots[number::workers], "repository": os.fspath(repository)}
        (directory / "work.json").write_text(json.dumps(work))
        processes.append(
            subprocess.Popen([sys.executable, "-m", "bench.lock_roots", f"--worker={directory}"], cwd=ROOT)
        )
    memory.start()
    if any([process.wait() for process in processes]):
        sys.exit("a worker failed")
    seconds = time.perf_counter() - start
    memory.done.set()
    found = [json.loads((top / f"worker{number}/answers.json").read_text()) for number in range(workers)]
    init = max(one["init"] for one in found)
    answers = {root: answer for one in found for root, answer in one["answers"].items()}
    return {"seconds": seconds - init, "init": init, "memory": memory.peak, "answers": answers}


# With Pants.


def with_pants(top: Path, snapshot: Path, roots: List[str]) -> Dict[str, Any]:
    names = [f"r{number:03d}" for number in range(len(roots))]
    # A name of its own, so that nothing of an earlier run is in the cache but the base.
    repositories = {f"run-{int(time.time())}": location(snapshot)}
    project = ScratchProject(top / "project", names, 'out_of_reach = "record"', repositories)
    project.write(
        {
            "3rdparty/opam/BUILD": "".join(
                f'opam_requirement(name="{name}-roots", resolve="{name}", requirements=["{root}"])\n'
                for name, root in zip(names, roots)
            )
        }
    )
    try:
        project.must("list", "3rdparty/debian:")
        memory = Memory(lambda: [int(p.read_text()) for p in (project.directory / ".pids").rglob("pid")])
        memory.start()
        run = project.must("generate-lockfiles", "--no-diff", *(f"--resolve={name}" for name in names))
        memory.done.set()
        again = project.must("generate-lockfiles", "--no-diff", *(f"--resolve={name}" for name in names))
        locks = {}
        for name, root in zip(names, roots):
            text = (project.directory / f"3rdparty/opam/{name}.lock").read_text()
            locks[root] = dict(re.findall(r'(?m)^\[\[package\]\]\nname = "(.*)"\nversion = "(.*)"$', text))
        warned = run.output.count("out of reach")
    finally:
        project.stop_daemon()
    return {"seconds": run.seconds, "again": again.seconds, "memory": memory.peak, "locks": locks, "warned": warned}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--roots", type=int, default=100)
    parser.add_argument("--by-hand", type=int, default=0, help="how many of them by hand as well; 0: all")
    parser.add_argument("--worker", type=Path)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker)
    if os.geteuid() != 0:
        sys.exit("opam by hand runs in an overlay that root mounts: needs root")
    try:
        snapshot = find_snapshot()
    except NoSnapshotError as error:
        sys.exit(str(error))
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=ROOT / "dist" if (ROOT / "dist").exists() else None) as temporary:
        top = Path(temporary)
        named = by_hand(top / "named", snapshot, list(NAMED), workers)
        inside = {name for solution in named["answers"].values() for name in solution}
        inside -= {root.partition("=")[0] for root in NAMED}
        others = sorted(inside, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        roots = [*NAMED, *others][: options.roots]
        compared = roots[: options.by_hand or None]
        hand = by_hand(top / "all", snapshot, compared, workers)
        solved = hand["answers"]
        pants = with_pants(top, snapshot, roots)
    different = [root for root in compared if pants["locks"][root] != solved[root]]
    for root in different:
        ours, theirs = set(pants["locks"][root].items()), set(solved[root].items())
        print(f"{root}: only in the lockfile {sorted(ours - theirs)}, only by hand {sorted(theirs - ours)}")
    count = len(roots)
    print(f"{count} roots, {workers} workers; {sum(map(len, pants['locks'].values()))} packages in all lockfiles")
    print(f"{'':34}{'seconds':>10}{'per root':>10}{'MB':>8}")
    hand_row = (hand["seconds"], hand["seconds"] / len(compared), hand["memory"])
    print(f"{f'opam by hand, {len(compared)} of them':34}%10.1f%10.2f%8.0f" % hand_row)
    print(f"{'generate-lockfiles':34}%10.1f%10.2f%8.0f" % (pants["seconds"], pants["seconds"] / count, pants["memory"]))
    print(f"{'generate-lockfiles, again':34}%10.1f%10.2f" % (pants["again"], pants["again"] / count))
    print(f"{'opam init by hand, once':34}%10.1f" % hand["init"])
    print(f"same packages and versions: {len(compared) - len(different)} of {len(compared)}")
    print(
        json.dumps(
            {
                "roots": count,
                "compared": len(compared),
                "workers": workers,
                "by_hand": {key: round(hand[key], 2) for key in ("seconds", "init", "memory")},
                "pants": {key: round(pants[key], 2) for key in ("seconds", "again", "memory")},
                "different": different,
            }
        )
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
