"""Releases of real projects as projects of a monorepo: do they build, give what the released packages give, and pass their tests?

    PYTHONPATH=.:src:pants-plugins $(build-support/test-python) -m tests.sweeps.local_projects --work=DIR [--table=FILE]
        [PROJECT ...]

Their archives come from Debian's source pool, and are untouched, but for the opam files that `local_releases` names. The same
archives are packages of a repository, too. Layers of both are compared: they may differ in opam's records alone, and where the
opam file is another one, in what dune copies of it. Then a test of one project is broken, and must be reported. Ends with 1 if
anything is wrong.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Tuple

from bench.scratch_project import ROOT, Run, ScratchProject
from tests.support.layouts import Layout
from tests.support.pool_sources import unpack_archive, unpack_release
from tests.support.tar_files import files_of_layer
from tests.sweeps.local_page import Found, Results, page
from tests.sweeps.local_releases import BROKEN, DEBIAN, RELEASES, Release, debian_package

RESOLVES = ("local", "released", "tested")
CONSTRAINTS = ["dune=3.17.2", "dune-configurator=3.17.2", "lwt=5.6.1", "topkg=1.0.7", "yojson=2.0.2"]
_POOL = "pool/main"
_RECORDS = re.compile(r"home/opam/\.opam/default/\.opam-switch/packages/[^/]+/opam\Z")
# What dune makes of a package's opam file, and opam's record of that.
_OF_OPAM_FILE = re.compile(
    r"home/opam/\.opam/default/(lib/([^/]+)/(opam|dune-package)|\.opam-switch/install/([^/]+)\.changes)\Z"
)
_RESULT = re.compile(r"#(\S+)@resolve=tested (succeeded|failed) in")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a directory for the monorepo and what is found")
    parser.add_argument("--table", type=Path, help="the page to write, of what this and earlier runs have found")
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=f"of {', '.join(RELEASES)}; all by default")
    arguments = parser.parse_args()
    unknown = set(arguments.projects) - RELEASES.keys()
    if unknown:
        parser.error(f"there is no project {', '.join(sorted(unknown))}")
    chosen = {name: RELEASES[name] for name in arguments.projects or RELEASES}
    arguments.work.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.work / "results.json")
    shutil.rmtree(arguments.work / "monorepo", ignore_errors=True)
    project = make_project(arguments.work / "monorepo", chosen)
    try:
        project.must("generate-lockfiles", "--no-diff")
        project.must("package", "images:")
        if "0install" in chosen:
            print(project.must("run", "images:local", "--", "0install", "--version").output.splitlines()[0])
        found = compare(project.directory / "dist/images", chosen)
        broken = ""
        if any(release.tests for release in chosen.values()):
            run_tests(project, chosen, found)
            for name in BROKEN.keys() & chosen.keys():
                broken = break_a_test(project, chosen, name)
    finally:
        project.stop_daemon()
    results.add(found, broken)
    print("\n".join(map(str, found.values())), broken, sep="\n")
    if arguments.table:
        arguments.table.write_text(page(RELEASES, results.packages, results.broken))
    return int(any(one.wrong for one in found.values()))


def make_project(directory: Path, projects: Mapping[str, Release]) -> ScratchProject:
    """The monorepo: all projects in the resolve `local`, those with tests in `tested`, the released packages in `released`."""
    project = ScratchProject(directory, RESOLVES, 'resolves_with_test = ["tested"]', base="trixie-ocaml")
    shutil.copytree(ROOT / "3rdparty/opam/overlay", directory / "repository")
    for path, text in map(debian_package, DEBIAN):
        project.write({f"repository/packages/{path}": text})
    local, released = [], []
    for name, release in projects.items():
        add_release(project, name, release)
        local += [f"src/{name}#{package}" + ("@resolve=local" if release.tests else "") for package in release.packages]
        released += [package for package in release.packages]
    roots: Dict[str, List[str]] = {"local": [], "released": released, "tested": []}
    build = "".join(
        f'opam_packages(name="{resolve}", resolve="{resolve}")\n'
        f'opam_requirement(name="roots-{resolve}", resolve="{resolve}", requirements={["ocaml-system", *more]!r}, '
        f"constraints={CONSTRAINTS!r})\n"
        for resolve, more in roots.items()
    )
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


def add_release(project: ScratchProject, name: str, release: Release) -> None:
    """The project of a release, and where the overlay has it not, its packages in the repository."""
    directory, repository = project.directory / "src" / name, project.directory / "repository/packages"
    if release.archive:
        unpack_archive(f"{_POOL}/{release.archive}", release.sha256, directory)
    else:
        unpack_release(name, directory)
    if release.opam == "overlay":
        [opam] = (repository / name).glob("*/opam")
        (directory / f"{name}.opam").write_text(opam.read_text().partition("\nurl {")[0] + "\n")
    files = [f"{package}.opam" for package in release.packages]
    for package, file in zip(release.packages, files):
        if (repository / package).exists():
            continue
        text = (directory / file if (directory / file).exists() else directory / "opam").read_text()
        version = re.search(r'^version: "(.*)"', text, re.MULTILINE)
        source = (
            f'url {{\n  src: "https://example.org/{name}.tar"\n  checksum: "sha256={sha256_of(name, release)}"\n}}\n'
        )
        title = f"{package}.{version.group(1) if version else release.version}"
        project.write({f"repository/packages/{package}/{title}/opam": f"{text}\n{source}"})
    named = f", opam_files={files!r}" if (directory / files[0]).exists() else ""
    resolve = 'parametrize("local", "tested")' if release.tests else '"local"'
    (directory / "BUILD").write_text(f"opam_project(resolve={resolve}{named})\n")


def sha256_of(name: str, release: Release) -> str:
    if release.sha256:
        return release.sha256
    lock = (ROOT / "3rdparty/opam/default.lock").read_text()
    found = re.search(rf'name = "{re.escape(name)}"\n.*?sha256 = "([0-9a-f]{{64}})"', lock, re.DOTALL)
    assert found
    return found.group(1)


def compare(images: Path, projects: Mapping[str, Release]) -> Dict[str, Found]:
    """By package: what of its layer is other than in the released package's."""
    packages = [(package, name) for name, release in projects.items() for package in release.packages]
    local, released = (by_name(Layout(images / name)) for name in ("local", "released"))
    found = {}
    for name, project in packages:
        (title, ours), (_, theirs) = local[name], released[name]
        differing = sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))
        other = bool(projects[project].opam) and name == project
        allowed = [path for path in differing if _RECORDS.match(path) or (other and _OF_OPAM_FILE.match(path))]
        found[name] = Found(project, title, len(ours), sorted({*differing} - {*allowed}))
    return found


def by_name(layout: Layout) -> Dict[str, Tuple[str, Dict[str, Tuple[object, ...]]]]:
    """By package: NAME.VERSION, and what its layer holds."""
    titles = [layer.get("annotations", {}).get("org.opencontainers.image.title", "") for layer in layout.layers]
    return {title.partition(".")[0]: (title, files_of_layer(layout, title)) for title in titles if title}


def run_tests(project: ScratchProject, projects: Mapping[str, Release], found: Dict[str, Found]) -> None:
    """All tests in one run; of each package, whether they passed and printed what they should."""
    run = project.pants("test", "--output=all", *addresses(projects))
    results = dict(_RESULT.findall(run.output))
    for release in projects.values():
        for package, pattern in release.tests.items():
            said = re.findall(pattern, output_of(run, package))
            found[package].tests = results.get(package, "not run")
            numbers = [int(word) for word in said if word.isdigit()]
            found[package].said = f"{sum(numbers)} tests" if numbers else "".join(said[:1])
            found[package].missing = not said
    (project.directory / "tests.log").write_text(run.output)


def addresses(projects: Mapping[str, Release]) -> List[str]:
    return [f"src/{name}#{package}@resolve=tested" for name, release in projects.items() for package in release.tests]


def output_of(run: Run, package: str) -> str:
    """What a package's tests printed: it stands behind the line that says that they have ended."""
    parts = re.split(r"(?m)^.*Completed: Test opam packages - \S*?#([^@\s]+)\S* - .*$", run.output)
    return "".join(text for name, text in zip(parts[1::2], parts[2::2]) if name == package)


def break_a_test(project: ScratchProject, projects: Mapping[str, Release], name: str) -> str:
    """Break a test of a project: it must be reported as failed, alone, and pass when it is mended. Returns what was found."""
    file, before, after = BROKEN[name]
    path = project.directory / "src" / name / file
    text = path.read_text()
    if before not in text:
        sys.exit(f"{path} has no {before}")
    path.write_text(text.replace(before, after))
    run = project.pants("test", *addresses(projects))
    path.write_text(text)
    failed = [package for package, result in _RESULT.findall(run.output) if result == "failed"]
    if run.status != 1 or failed != [name]:
        sys.exit(f"a broken test of {name}: exit status {run.status}, failed: {failed}\n{run.output[-4000:]}")
    project.must("test", *addresses(projects))
    return (
        f"`{before}` in {name}'s `{file}` was then made `{after}`: `pants test` ended with 1 and named {name} alone as "
        f"failed, of {len(addresses(projects))} packages. Mended, all passed again."
    )


if __name__ == "__main__":
    sys.exit(main())
