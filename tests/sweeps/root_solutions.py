"""Solves every package of the public repository by itself, and compares a sample with opam's own answers.

    export PYTHONPATH=.:src:pants-plugins
    $(build-support/test-python) -m tests.sweeps.root_solutions --work=DIR [--sample=200] [--compiler=ocaml-base-compiler.5.3.0]

As root, with the snapshot of the repository that tests/support/snapshot.py finds; keeps in DIR what it made, and answers of opam.
Prints seconds, CPU seconds a root and the peak of memory, and every root of the sample on which the two do not agree.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from tests.support.snapshot import find_snapshot
from tests.support.solver_ground import Ground, Run

Answers = Dict[str, Optional[Dict[str, str]]]


def request(packages: Sequence[str], compiler: str, more: Dict[str, Any]) -> Dict[str, Any]:
    """Of `solve-roots`, but for the solver."""
    return {
        **{"step": "solve-roots", "store": "store", "layers": ["layers/base", "layers/root"]},
        **{"prepared": "prepared-snapshot", "repositories": ["r"], "compilers": [compiler], "constraints": []},
        **{"selection": {"packages": list(packages)}, **more},
    }


def answers(top: Path) -> Answers:
    """NAME.VERSION -> packages, or None where there is no answer."""
    found = json.loads((top / "solutions.json").read_text())
    return {f"{root['name']}.{root['version']}": root.get("packages") for root in found["roots"]}


def by_opam(
    ground: Ground, roots: Sequence[str], compiler: str, more: Dict[str, Any], jobs: int
) -> Tuple[Answers, float]:
    """opam's answers, a process for each root, and the CPU seconds that those of this run took."""
    kept = ground.top / "by-opam"
    kept.mkdir(exist_ok=True)
    places: List[Ground] = []
    for job in range(jobs):
        top = ground.top / f"job-{job}"
        top.mkdir(exist_ok=True)
        for name in ("store", "layers", "prepared-snapshot"):
            if not (top / name).exists():
                (top / name).symlink_to(f"../{name}")
        places.append(Ground(top))
    lock = threading.Lock()
    start = os.times()

    def one(root: str) -> Tuple[str, Optional[Dict[str, str]]]:
        file = kept / f"{root} {compiler} {' '.join(sorted(more))}.json"
        if not file.exists():
            with lock:
                place = places.pop()
            try:
                place.run("locking", "lock-opam", request([root], compiler, more))
                file.write_text(json.dumps(answers(place.top)[root]))
            finally:
                with lock:
                    places.append(place)
        found: Optional[Dict[str, str]] = json.loads(file.read_text())
        return root, found

    with ThreadPoolExecutor(jobs) as pool:
        found = dict(pool.map(one, roots))
    end = os.times()
    return found, end.children_user + end.children_system - start.children_user - start.children_system


def told(title: str, run: Run, roots: int) -> None:
    """Print what a run took."""
    print(
        f"{title}: {roots} roots in {run.seconds:.1f} s, {run.cpu:.1f} CPU seconds, {run.cpu / max(1, roots):.4f} a root, "
        f"largest process {run.peak >> 20} MB",
        flush=True,
    )


def main() -> int:
    """Exit status 1 if any answer differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--compiler", default="ocaml-base-compiler.5.3.0")
    parser.add_argument("--with-test", action="store_true")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    more = {"with_test": True} if options.with_test else {}
    options.work.mkdir(exist_ok=True)
    ground = Ground(options.work.resolve())
    ground.make()
    archive = ground.top / "snapshot.tar.zst"
    if not archive.exists():
        archive.symlink_to(find_snapshot())
    ground.prepare_directories([{"name": "r", "path": archive.name}], "snapshot")
    solver = {"solver": ground.solver, **more}
    start = time.monotonic()
    run = ground.run("locking", "lock-opam", request(["*"], options.compiler, solver))
    mine = answers(ground.top)
    told("all", run, len(mine))
    print(
        f"  {sum(found is not None for found in mine.values())} with an answer, {time.monotonic() - start:.1f} s",
        flush=True,
    )
    roots = list(mine)[:: max(1, len(mine) // options.sample)][: options.sample]
    told("sample", ground.run("locking", "lock-opam", request(roots, options.compiler, solver)), len(roots))
    sample = answers(ground.top)
    opams, cpu = by_opam(ground, roots, options.compiler, more, options.jobs)
    different = [root for root in roots if sample[root] != opams[root] or sample[root] != mine[root]]
    for root in different:
        one, other = sample[root] or {}, opams[root] or {}
        names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
        print(f"{root}: " + ", ".join(f"{name} {one.get(name)} (opam: {other.get(name)})" for name in names[:12]))
    print(
        f"{len(roots) - len(different)} of {len(roots)} agree; opam took {cpu:.1f} CPU seconds, {cpu / len(roots):.2f} a root"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
