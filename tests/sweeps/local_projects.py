"""Releases of real projects as projects of a monorepo: do they build, give what the released packages give, and pass their tests?

    python -m tests.sweeps.local_projects --work=DIR [PROJECT ...]

Their archives come from Debian's source pool. They are untouched, but for the opam files that `OPAM_FILES` names: those need what
the overlay does not have, or are not in the archive, and the overlay's is taken. Prints a line for each package, and ends with 1
where a layer differs in more than opam's records, or where tests fail.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from bench.scratch_project import ROOT, ScratchProject
from tests.support.layouts import Layout
from tests.support.pool_sources import unpack_release
from tests.support.tar_files import files_of_layer

# By project, which is called as its release's package is: the packages that are built of it.
PROJECTS = {
    "0install": ["0install", "0install-solver"],
    "cppo": ["cppo"],
    "csexp": ["csexp"],
    "lwt": ["lwt", "lwt_react"],
    "ocplib-endian": ["ocplib-endian"],
    "ocurl": ["ocurl"],
    "react": ["react"],
    "xmlm": ["xmlm"],
    "yojson": ["yojson"],
}
# 0install's own asks for obus, and cppo's release has none.
OPAM_FILES = ("0install", "cppo")
# What the tests of the others need is in no archive of the overlay: ounit2 (0install), alcotest (yojson). The rest have none.
TESTED = ("cppo", "ocplib-endian", "ocurl")
RESOLVES = ("local", "released", "tested")
CONSTRAINTS = ["dune=3.17.2", "dune-configurator=3.17.2", "lwt=5.6.1", "topkg=1.0.7", "yojson=2.0.2"]
_RECORDS = re.compile(r"home/opam/\.opam/default/\.opam-switch/packages/[^/]+/opam\Z")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a directory for the monorepo, which is made")
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=f"of {', '.join(PROJECTS)}; all by default")
    arguments = parser.parse_args()
    unknown = set(arguments.projects) - PROJECTS.keys()
    if unknown:
        parser.error(f"there is no project {', '.join(sorted(unknown))}")
    chosen = {name: PROJECTS[name] for name in arguments.projects or PROJECTS}
    project = make_project(arguments.work / "monorepo", chosen)
    try:
        project.must("generate-lockfiles", "--no-diff")
        project.must("package", "images:")
        if "0install" in chosen:
            print(project.must("run", "images:local", "--", "0install", "--version").output.splitlines()[0])
        packages = [package for packages in chosen.values() for package in packages]
        wrong = compare(project.directory / "dist/images", packages)
        tested = [f"src/{name}#{name}@resolve=tested" for name in TESTED if name in chosen]
        if not tested:
            return int(bool(wrong))
        tests = project.pants("test", *tested)
        print("\n".join(line for line in tests.output.splitlines() if re.search(r"#\S+ (succeeded|failed) in", line)))
        return int(bool(wrong) or tests.status != 0)
    finally:
        project.stop_daemon()


def make_project(directory: Path, projects: Mapping[str, Sequence[str]]) -> ScratchProject:
    """The monorepo: all projects in the resolve `local`, those with tests in `tested`, the released packages in `released`."""
    project = ScratchProject(directory, RESOLVES, 'resolves_with_test = ["tested"]', base="trixie-ocaml")
    shutil.copytree(ROOT / "3rdparty/opam/overlay", directory / "repository")
    for name, packages in projects.items():
        target = unpack_release(name, directory / "src" / name)
        files = [f"{package}.opam" for package in packages]
        if name in OPAM_FILES:
            [opam] = (directory / "repository/packages" / name).glob("*/opam")
            (target / f"{name}.opam").write_text(opam.read_text().partition("\nurl {")[0] + "\n")
        named = f", opam_files={files!r}" if (target / files[0]).exists() else ""
        resolve = 'parametrize("local", "tested")' if name in TESTED else '"local"'
        (target / "BUILD").write_text(f"opam_project(resolve={resolve}{named})\n")
    released = [package for packages in projects.values() for package in packages]
    roots: Dict[str, List[str]] = {"local": [], "released": released, "tested": []}
    build = "".join(
        f'opam_packages(name="{resolve}", resolve="{resolve}")\n'
        f'opam_requirement(name="roots-{resolve}", resolve="{resolve}", requirements={["ocaml-system", *more]!r}, '
        f"constraints={CONSTRAINTS!r})\n"
        for resolve, more in roots.items()
    )
    local = [
        f"src/{name}#{package}" + ("@resolve=local" if name in TESTED else "")
        for name, packages in projects.items()
        for package in packages
    ]
    images = {"local": local, "released": [f"3rdparty/opam:released#{package}" for package in released]}
    project.write(
        {
            "3rdparty/opam/BUILD": build,
            "images/BUILD": "".join(
                f'oci_package_image(name="{name}", packages={packages!r}, cmd=["opam", "list"])\n'
                for name, packages in images.items()
            ),
        }
    )
    return project


def compare(images: Path, packages: Sequence[str]) -> List[str]:
    """Print a line for each package; returns those whose layers differ in more than opam's records."""
    local, released = (by_name(Layout(images / name), packages) for name in ("local", "released"))
    wrong = []
    for name in packages:
        (title, ours), (_, theirs) = local[name], released[name]
        differing = sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))
        real = [path for path in differing if not _RECORDS.match(path)]
        wrong += [name] if real else []
        print(f"{title}: {len(ours)} entries, {len(real)} differ {' '.join(real[:20])}")
    return wrong


def by_name(layout: Layout, packages: Sequence[str]) -> Dict[str, Tuple[str, Dict[str, Tuple[object, ...]]]]:
    """By package: NAME.VERSION, and what its layer holds."""
    titles = [layer.get("annotations", {}).get("org.opencontainers.image.title", "") for layer in layout.layers]
    return {title.partition(".")[0]: (title, files_of_layer(layout, title)) for title in titles if title}


if __name__ == "__main__":
    sys.exit(main())
