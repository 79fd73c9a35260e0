"""A health check of all packages of the public repository that can be built from what Debian's source pool serves.

    PYTHONPATH=.:src:pants-plugins $(build-support/test-python) -m tests.sweeps.health --work=DIRECTORY
        [--compiler=REQUIREMENT] [--only=NAME ...] [--time-limit=SECONDS]

Writes a project into DIRECTORY with `real_repository`'s packages, locks each version that the pool serves as a root of its own,
and runs `pants opam-health`, by default on Debian's own OCaml. A later run goes on where an earlier one was. Prints the goal's
summary; its reports are in DIRECTORY/project/dist, and `health_page` makes a page of them. The exit status is the goal's. Needs
root, mmdebstrap, a Debian mirror, and a snapshot of the repository.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Sequence

from bench.scratch_project import ScratchProject
from tests.sweeps.real_repository import make_repository

_LOCK = "health.lock"


def make_project(work: Path, compiler: str, only: Sequence[str]) -> ScratchProject:
    """The project, with a lockfile that fits. One of an earlier run is taken over if it still does."""
    pool = make_repository(work)
    if (work / "project" / _LOCK).exists():
        shutil.copy(work / "project" / _LOCK, work / _LOCK)
    shutil.rmtree(work / "project", ignore_errors=True)
    base = "trixie-ocaml" if compiler == "ocaml-system" else "trixie"
    project = ScratchProject(work / "project", ["default"], base=base)
    shutil.copytree(work / "repository", project.directory / "repository")
    config = project.directory / "pants.toml"
    config.write_text(f'{config.read_text()}\n[opam-health.resolves]\nhealth = "{_LOCK}"\n')
    packages = sorted(only or pool.served)
    fields = f"packages={packages!r}, compilers={[compiler]!r}"
    project.write({"BUILD": f'opam_health_check(name="health", base="//3rdparty/debian:{base}", {fields})\n'})
    if (work / _LOCK).exists():
        shutil.copy(work / _LOCK, project.directory / _LOCK)
    if not (work / _LOCK).exists() or project.pants("opam-health", "--dry-run", "//:health").status != 0:
        start = time.monotonic()
        project.must("generate-lockfiles", "--resolve=health")
        lock = json.loads((project.directory / _LOCK).read_text())
        found = ", ".join(f"{len(lock[key])} {key}s" for key in ("root", "node", "package", "deb"))
        print(f"locked in {time.monotonic() - start:.0f} s: {found}", flush=True)
    return project


def main() -> int:
    parser = argparse.ArgumentParser(description="A health check of real packages.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--compiler", default="ocaml-system", help="a requirement (default: ocaml-system)")
    parser.add_argument("--only", action="append", default=[], help="check these packages only; may be given again")
    parser.add_argument(
        "--time-limit", type=int, default=0, help="seconds after which no build is started (default: any)"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    project = make_project(options.work, options.compiler, options.only)
    limit = [f"--opam-health-time-limit={options.time_limit}"] if options.time_limit else []
    run = project.pants("--opam-build-timeout=20m", "opam-health", *limit, "//:health")
    project.stop_daemon()
    (options.work / "run.log").write_text(run.output)
    shown = [line for line in run.output.splitlines() if "[INFO]" not in line]
    print("\n".join(shown[-60:]))
    print(f"{run.seconds:.0f} s")
    return run.status


if __name__ == "__main__":
    sys.exit(main())
