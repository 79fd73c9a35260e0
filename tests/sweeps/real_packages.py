"""Real packages by hand and by us: those of the public repository whose archives Debian's source pool has, compared.

    PYTHONPATH=.:src:pants-plugins $(build-support/test-python) -m tests.sweeps.real_packages --work=DIRECTORY [--only=GROUP ...]
        [--table=FILE]

Locks the roots of `real_roots` in one resolve on Debian's OCaml, builds an image of each group by `./pants package`, and has
`differential` install the same roots by opam in one switch. What is found is kept in DIRECTORY, where a later run goes on;
--table writes all of it as Markdown. Needs root, mmdebstrap, a Debian mirror, and a snapshot of the repository
(`tests.support.snapshot`). The exit status is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import List

from bench.scratch_project import ScratchProject
from tests.sweeps import real_findings
from tests.sweeps.differential import differences
from tests.sweeps.real_downloads import Locked
from tests.sweeps.real_repository import make_repository
from tests.sweeps.real_roots import GROUPS, roots

_LOCK = "3rdparty/opam/default.lock"


def make_project(work: Path) -> ScratchProject:
    """A project with an image for each group. A lockfile of an earlier run is taken over; remove it when the roots have
    changed."""
    make_repository(work)
    shutil.rmtree(work / "project", ignore_errors=True)
    project = ScratchProject(work / "project", ["default"], base="trixie-ocaml")
    shutil.copytree(work / "repository", project.directory / "repository")
    everything = list(dict.fromkeys(root for group in GROUPS for root in roots(group)))
    build = f'opam_packages(name="opam")\nopam_requirement(name="roots", requirements={everything!r})\n'
    for group in GROUPS:
        packages = [f":opam#{root}" for root in roots(group)]
        build += f"oci_package_image(name={group!r}, packages={packages!r})\n"
    project.write({"BUILD": build})
    if (work / "default.lock").exists():
        project.write({_LOCK: (work / "default.lock").read_text()})
    else:
        project.must("generate-lockfiles", "--resolve=default")
        shutil.copy(project.directory / _LOCK, work / "default.lock")
    return project


def compare(work: Path, project: ScratchProject, group: str) -> "dict[str, List[str]]":
    """Build a group's image and compare it: package -> what differs, for each package that the image has."""
    project.must("package", f":{group}")
    locked = Locked.read(work / "default.lock", roots(group))
    here = work / f"compare-{group}"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    repository = locked.repository(work / "repository", here / "repository")
    downloads = locked.downloads(work / "archives", here / "downloads")
    debs = locked.debs(work)
    inside = here / "views"
    inside.mkdir()
    lines = differences(
        project.directory / "dist" / group, repository, downloads, roots(group), inside, real_findings.MORE, debs
    )
    for name in ("hand", "image"):
        shutil.copy(inside / f"{name}.txt", work / f"{group}-{name}.txt")
    found = real_findings.by_package(lines, locked.packages, (work / f"{group}-image.txt").read_text(errors="replace"))
    shutil.rmtree(here)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--only", action="append", choices=list(GROUPS), help="a group to compare, also if it was before"
    )
    parser.add_argument("--table", type=Path, help="the page to write")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    results = real_findings.Results(work / "results.json")
    wanted = options.only or [group for group in GROUPS if group not in results.groups]
    if wanted:
        project = make_project(work)
        try:
            for group in wanted:
                results.add(group, compare(work, project, group))
                print(group, results.summary(group), flush=True)
        finally:
            project.stop_daemon()
    if options.table:
        options.table.write_text(results.page())
    return 1 if results.differing() else 0


if __name__ == "__main__":
    sys.exit(main())
