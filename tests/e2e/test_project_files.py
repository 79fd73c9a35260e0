"""The project's own opam files, locked, against `opam install --deps-only .` by the base's opam in the same files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest

from bench.scratch_project import ScratchProject
from opam_oci.resolves.lockfile_reader import read_opam_lock
from tests.support.checkout import ROOT

HEAD = 'opam-version: "2.0"\nmaintainer: "x"\nauthors: "x"\nlicense: "MIT"\nhomepage: "x"\nbug-reports: "x"\nsynopsis: "x"\n'
REPOSITORY = {
    "dep.1": "",
    "dep.2": "",
    "types.0.7": "",
    "types.1.2": "",
    "types.2": "",
    "named.0.7": "",
    "named.0.8": 'available: os-family = "arch"',
    "opt.1": "",
    "lib.1": 'depends: ["dep" {>= "2"}]',
    "lib.2": 'depends: ["dep" {>= "2"}]',
    "user.1": 'depends: ["lib" {>= "2"} "types" {< "2"}]',
    "check.1": "",
    "check.2": "",
}
# Of each, the opam files: a target names each, or what `opam lock` made of it.
PROJECTS = {
    "version": {"mylib.opam": 'version: "1.2"\ndepends: ["types" {= version}]'},
    "from-repository": {"named.opam": 'depends: ["types" {= version}]'},
    "siblings": {
        "a.opam": 'version: "3~dev"\ndepends: ["b" {= version} "dep" {< "2"}]',
        "b.opam": 'version: "3~dev"\ndepends: ["types"]',
    },
    "plain": {"opam": 'depends: ["dep"]'},
    "below": {"opam/opam": 'name: "zed"\ndepends: ["dep"]'},
    "wrapped": {"zed.opam/opam": 'depends: ["dep"]'},
    "locked": {"zed.opam": 'depends: ["dep"]', "zed.opam.locked": 'depends: ["dep" {= "1"}]'},
    "filters": {
        "zed.opam": 'depends: ["dep" {os = "linux" & arch != "x"} "types" {with-test | os = "win32"}]\ndepopts: ["opt"]'
    },
    "conflict": {"zed.opam": 'depends: ["dep"]\nconflicts: ["dep"]'},
    "cycle": {"a.opam": 'depends: ["b"]', "b.opam": 'depends: ["a" "dep"]'},
    "class": {"zed.opam": 'conflict-class: "c"\ndepends: ["dep"]'},
}
# Of each, directories that are to be built: one depends on another, one is in place of a released package that others depend on.
APP = 'version: "3"\ndepends: ["core" {= version} "user" "check" {with-test & < "2"}]'
CORE = 'version: "3"\ndepends: ["named"]\npin-depends: ["lib.2" "../lib"]'
BUILT = {
    name: {"app/app.opam": APP, "core/core.opam": CORE, "lib/opam": 'name: "lib"\ndepends: ["dep" {< "2"}]'}
    for name in ("built", "built-tested")
}
OWN = {"app": "3", "core": "3", "lib": "2"}
DEPEXTS = 'depends: ["dep"]\ndepexts: [["tree"] {os-family = "debian"} ["x"] {os-family = "arch"}]\n'
PIN = 'depends: ["dep"]\npin-depends: [["dep.1" "git+https://example.org/dep.git#0123"]]\n'


def opam_file(text: str) -> str:
    return "".join(f"{line}\n" for line in HEAD.splitlines() if line.split(":")[0] not in text) + f"{text}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="opam by hand runs in an overlay that root mounts")
def test_the_same_as_opam_by_hand(tmp_path: Path) -> None:
    repository = {
        f"repository/packages/{title.partition('.')[0]}/{title}/opam": opam_file(text)
        for title, text in REPOSITORY.items()
    }
    files = {
        f"{name}/{path}": opam_file(text) for name, of in {**PROJECTS, **BUILT}.items() for path, text in of.items()
    }
    # Those that have no solution are asked for one by one; one error would stop the others.
    failing = ("conflict", "cycle", "pin")
    resolves = [*PROJECTS, *BUILT, "depexts", "pin"]
    project = ScratchProject(tmp_path / "project", resolves, 'resolves_with_test = ["built-tested"]')
    project.write({**repository, "repository/repo": 'opam-version: "2.0"\n', **files})
    for name, of in PROJECTS.items():
        named = [path for path in of if f"{path}.locked" not in of]
        targets = (
            f'opam_requirement(name="r{n}", resolve="{name}", source="{path}")\n' for n, path in enumerate(named)
        )
        project.write({f"{name}/BUILD": "".join(targets)})
    for name, of in BUILT.items():
        project.write({f"{name}/{path.split('/')[0]}/BUILD": f'opam_project(resolve="{name}")\n' for path in of})
    for name, text in (("depexts", DEPEXTS), ("pin", PIN)):
        target = f'opam_requirement(name="r", resolve="{name}", source="mylib.opam")\n'
        project.write({f"{name}/mylib.opam": opam_file(text), f"{name}/BUILD": target})
    try:
        good = [name for name in (*PROJECTS, *BUILT, "depexts") if name not in failing]
        project.must("generate-lockfiles", "--no-diff", *(f"--resolve={name}" for name in good))
        outputs = {name: project.pants("generate-lockfiles", f"--resolve={name}") for name in failing}
    finally:
        project.stop_daemon()
    hand = tmp_path / "hand"
    hand.mkdir()
    # opam by hand would look for the pin in the network of a process that has none, and finds the directory without it.
    by_hand_files = {path: text.replace("pin-depends", "x-pins") for path, text in files.items()}
    (hand / "files.json").write_text(
        json.dumps({**repository, "repository/repo": 'opam-version: "2.0"\n', **by_hand_files})
    )
    subprocess.run([sys.executable, "-m", "tests.support.deps_by_hand", str(hand)], cwd=ROOT, check=True)
    by_hand = json.loads((hand / "answers.json").read_text())
    assert {name: by_hand[name] for name in ("conflict", "cycle")} == {"conflict": None, "cycle": None}
    ours: Dict[str, object] = {name: locked(project, name) for name in PROJECTS if name not in failing}
    assert ours == {name: answer for name, answer in by_hand.items() if name not in (*failing, *BUILT)}
    assert_built_as_by_hand(project, by_hand)
    assert ours["version"] == {"types": "1.2"} and ours["from-repository"] == {"types": "0.7"}
    assert {run.status for run in outputs.values()} == {1}
    assert "opam finds no solution for zed" in outputs["conflict"].output
    assert "cyclic dependencies" in outputs["cycle"].output
    assert (
        "pin/mylib.opam (`source` of pin:r): the field `pin-depends` pins dep.1 to git+https" in outputs["pin"].output
    )
    assert locked(project, "depexts") == {"dep": "2", "deps-of-mylib": "dev"}
    text = (project.directory / "3rdparty/opam/depexts.lock").read_text()
    assert 'depexts = ["tree"]' in text and re.search(r'\[\[deb\]\]\nname = "tree"', text)


def assert_built_as_by_hand(project: ScratchProject, by_hand: Dict[str, Dict[str, str]]) -> None:
    """The project's own packages are there, and else what opam would install for them."""
    for name in BUILT:
        found = locked(project, name)
        assert {package: found.pop(package) for package in OWN} == OWN
        assert found == {package: version for package, version in by_hand[name].items() if package not in OWN}
    expected = {"user": "1", "types": "1.2", "dep": "1", "named": "0.7"}
    assert locked(project, "built") == {**OWN, **expected}
    assert locked(project, "built-tested") == {**OWN, **expected, "check": "1"}
    content = (project.directory / "3rdparty/opam/built-tested.lock").read_bytes()
    packages = read_opam_lock("p", "built-tested", content).packages
    assert (packages["app"].local, packages["app"].depends, packages["app"].test_depends) == (
        "built-tested/app/app.opam",
        ("core", "user"),
        ("check",),
    )
    assert packages["user"].depends == ("lib", "types") and packages["lib"].local == "built-tested/lib/opam"
    assert packages["lib"].depends == ("dep",) and not packages["lib"].sources


def locked(project: ScratchProject, resolve: str) -> Dict[str, str]:
    text = (project.directory / f"3rdparty/opam/{resolve}.lock").read_text()
    return dict(re.findall(r'(?m)^\[\[package\]\]\nname = "(.*)"\nversion = "(.*)"$', text))
