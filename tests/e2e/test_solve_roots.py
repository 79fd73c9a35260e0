"""The solver of many roots gives what opam's builtin-0install gives for each of them, over a repository that has every trap.

The base, the layer of the solver and the answers are real. Making them takes minutes: OPAM_OCI_SOLVER_GROUND names a directory in
which they are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.support.solver_ground import CommandFailed, Ground
from tests.unit.conftest import directory_for_all

PACKAGES = {
    # A compiler with versions, and packages that stand for it.
    "comp.4": "",
    "comp.5": 'conflicts: "comp-system"',
    "comp.6": "flags: avoid-version",
    "comp-system.5": 'conflicts: "comp"',
    "lang.4": 'depends: "comp" {= "4"} | "comp-system" {= "4"}',
    "lang.5": 'depends: "comp" {= "5"} | "comp-system" {= "5"}',
    "lib_a.1": 'depends: "lang"',
    "lib_a.2": 'depends: "lang" {< "5"}\nsynopsis: "The second"',
    "lib_a.3": 'depends: "lang"\nflags: deprecated',
    # Virtual: provided by one of two, which conflict as they are of one class.
    "virtual.1": 'depends: "one" | "two"',
    "one.1": 'conflict-class: "oneness"',
    "two.1": 'conflict-class: "oneness"',
    "wants-two.1": 'depends: ["two" "virtual"]',
    "wants-both.1": 'depends: ["one" "two"]',
    "conflicting.1": 'depends: ["lib_a" "old"]\nconflicts: "lib_a" {>= "2"}',
    "old.1": 'depends: "lib_a" {< "3"}',
    "old.2": 'depends: "lib_a" {>= "4"}',
    # What may be used: absent unless something else brings it.
    "opt.1": 'depends: "lib_a"\ndepopts: ["one" "absent"]\nconflicts: "one" {< "1"}',
    "opt-with.1": 'depends: ["opt" "one"]',
    "formula.1": 'depends: ("lib_a" {= "1"} & "old") | ("lib_a" {= "2"} & "two")',
    "tested.1": 'depends: ["lib_a" "check" {with-test} "manual" {with-doc}]',
    "check.1": 'depends: ["lib_a" {< "2"} "deep" {with-test}]',
    "check.2": 'depends: "lang" {< "5"}',
    "manual.1": "",
    "deep.1": "",
    "uses-tested.1": 'depends: "tested"',
    "untestable.1": 'depends: ["check" {with-test & >= "7"} "lib_a"]',
    "windows.1": 'available: os = "win32"',
    "windows.2": 'available: os = "win32"\ndepends: "lib_a"',
    "on-windows.1": 'depends: "windows"',
    "impossible.1": 'depends: ["lib_a" {= "1"} "old" {= "2"}]',
    "nowhere.1": 'depends: "there-is-none" {>= "3"}',
    "odd-nowhere.1": 'depends: "there_is_none" {>= "3"}',
    "clash.1": 'depends: ["left" "right"]',
    "left.1": 'depends: "shared" {= "1"}',
    "left.2": 'depends: "shared" {= "2"}',
    "right.1": 'depends: "shared" {= "3"}',
    "right.2": 'depends: "shared" {= "4"}',
    **{f"shared.{number}": "" for number in range(1, 5)},
    "system.1": 'depexts: ["libgmp-dev"] {os-family = "debian"}',
    "needs-system.1": 'depends: ["system" "lang"]',
    "late.1.9": 'depends: "lang" {post}',
    "late.1.10": 'depends: ["lang" {post} "manual" {build}]',
    "late.1.10~rc1": "",
    "self.1": 'conflicts: "self"',
}
COMPILERS = ["", "comp.5", "comp<5", "lang=4"]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    if os.geteuid() != 0:
        pytest.skip("layers are made as root here")
    named = os.environ.get("OPAM_OCI_SOLVER_GROUND")
    if named:
        yield Ground(Path(named))
        return
    with directory_for_all("solver-ground-") as directory:
        made = Ground(directory)
        made.make()
        yield made


@pytest.fixture(scope="module")
def prepared(ground: Ground) -> str:
    return ground.prepare({"r": PACKAGES}, f"made-up-{hashlib.sha256(json.dumps(PACKAGES).encode()).hexdigest()[:8]}")


def answers(found: Dict[str, Any]) -> Dict[str, Any]:
    """Root and compiler -> packages, or None."""
    return {f"{root['name']}.{root['version']} {root['compiler']}": root.get("packages") for root in found["roots"]}


OPTIONS: List[Dict[str, Any]] = [
    {},
    {"with_test": True},
    {"with_test": True, "with_doc": True},
    {"prefer_oldest": True},
    {"constraints": ["lib_a=1", "old<2"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=[" ".join(one) or "plain" for one in OPTIONS])
def test_the_solver_says_what_opam_says(ground: Ground, prepared: str, options: Dict[str, Any]) -> None:
    compilers = COMPILERS if not options else ["", "comp.5"]
    same = {"compilers": compilers, "selection": {"packages": ["*"], "latest": 9, "available": False}, **options}
    mine = ground.solve(prepared, ["*"], **same)
    opams = ground.solve(prepared, ["*"], **{**same, "solver": None})
    assert (mine["facts"]["solver"], opams["facts"]["solver"]) == ("solve_roots", "opam")
    found = answers(mine)
    assert found == answers(opams) and len(found) > 40 * len(compilers)
    assert any(found.values()) and None in found.values()
    assert all(root["reason"].strip() for root in mine["roots"] if "packages" not in root)


def reason(found: Dict[str, Any], name: str) -> str:
    [text] = [root["reason"] for root in found["roots"] if root["name"] == name]
    return str(text)


def test_reasons(ground: Ground, prepared: str) -> None:
    names = ["clash", "impossible", "windows", "on-windows", "nowhere", "odd-nowhere", "lib_a.2", "wants-both"]
    found = ground.solve(prepared, names, compilers=["lang=5"])
    assert 'windows is available in the base: its opam file says `available: os = "win32"`' in reason(found, "windows")
    assert "needs windows" in reason(found, "on-windows") and "no version is available of windows" in reason(
        found, "on-windows"
    )
    assert "no version is available of there-is-none >= 3" in reason(found, "nowhere")
    assert "no version is available of there_is_none >= 3" in reason(found, "odd-nowhere")
    assert "lib_a.2: needs lang < 5" in reason(found, "lib_a") and "asked for is lang = 5" in reason(found, "lib_a")
    assert "old.2" in reason(found, "impossible") and "lib_a" in reason(found, "impossible")
    assert "conflict" in reason(found, "wants-both")
    assert "shared" in reason(found, "clash")


def test_what_means_nothing(ground: Ground, prepared: str) -> None:
    for packages, message in (
        (["lib_b"], "no package lib_b in the opam repositories r .did you mean lib_a"),
        (["lib_a.9"], "no version 9 of lib_a in the opam repositories r; they have 3, 2, 1"),
        (["libb*"], r"no package of the opam repositories r matches 'libb\*'"),
    ):
        with pytest.raises(CommandFailed, match=message):
            ground.solve(prepared, packages)
    with pytest.raises(CommandFailed, match="no package cmop in the opam"):
        ground.solve(prepared, ["lib_a"], compilers=["cmop=5"])
    with pytest.raises(CommandFailed, match="the constraint 'lib_a' bounds nothing"):
        ground.solve(prepared, ["lib_a"], constraints=["lib_a"])


def listed(ground: Ground, prepared: str, **values: Any) -> List[Dict[str, Any]]:
    request = {
        **{
            "step": "list-roots",
            "store": "store",
            "layers": ground.layers,
            "prepared": prepared,
            "repositories": ["r"],
        },
        **{"compilers": [""], "solver": ground.solver, **values},
    }
    ground.run("locking", "lock-opam", request)
    found: List[Dict[str, Any]] = json.loads((ground.top / "roots.json").read_text())["compilers"]
    return found


def test_what_is_available(ground: Ground, prepared: str) -> None:
    """What opam lists, each version, also where what a package depends on is not there, or not with the compiler."""
    every, five = listed(ground, prepared, compilers=["", "lang=5"], all_versions=True)
    found = [f"{item['name']} {item['version']}" for item in every["packages"]]
    opams = ground.opam(prepared, "list", "--available", "--all-versions", "--short", "--columns=name,version")
    assert sorted(found) == sorted(" ".join(line.split()) for line in opams.splitlines())
    assert {"on-windows 1", "impossible 1", "nowhere 1"} < set(found) and not any("windows" == one[:7] for one in found)
    assert five["packages"] == every["packages"]
    assert [item["version"] for item in every["packages"] if item["name"] == "late"] == ["1.10", "1.10~rc1", "1.9"]
    [newest] = listed(ground, prepared)
    versions = {item["name"]: item["version"] for item in newest["packages"]}
    assert versions["lib_a"] == "2" and versions["late"] == "1.10"
    assert {"name": "lib_a", "version": "2", "synopsis": "The second"} in newest["packages"]
    # The roots of a check that names none.
    roots = ground.solve(prepared, ["*"])["roots"]
    assert {root["name"]: root["version"] for root in roots} == versions


def test_what_goes_with_a_compiler(ground: Ground, prepared: str) -> None:
    one, five = (
        {item["name"]: item["version"] for item in found["packages"]}
        for found in listed(ground, prepared, compilers=["", "lang=5"], installable=True)
    )
    assert (one["lib_a"], five["lib_a"]) == (one["check"], five["check"]) == ("2", "1")
    assert not {"windows", "on-windows", "nowhere"} & {*one, *five}
    # Nothing that has a solution is left out.
    for compiler, names in (("", one), ("lang=5", five)):
        roots = ground.solve(prepared, ["*"], compilers=[compiler])["roots"]
        assert {root["name"] for root in roots if "packages" in root} <= set(names)


def test_reverse_dependencies(ground: Ground, prepared: str) -> None:
    [found] = listed(ground, prepared, revdeps_of=["one", "check.1"])
    assert found["packages"] == []
    said = {(item["name"], item["of"]): (item["distance"], item["by"]) for item in found["revdeps"]}
    assert said[("virtual", "one.1")] == (1, "depends") and said[("opt", "one.1")] == (1, "depopts")
    # wants-two depends on virtual, but two is in the way of one.
    assert ("wants-two", "one.1") not in said and said[("opt-with", "one.1")] == (1, "depends")
    assert said[("tested", "check.1")] == (1, "test")
    for item in found["revdeps"]:
        name, _, version = item["of"].partition(".")
        assert item["packages"][name] == version and item["packages"][item["name"]] == item["version"]
    [deep] = listed(ground, prepared, revdeps_of=["tested"])
    assert [(item["name"], item["distance"]) for item in deep["revdeps"]] == [("uses-tested", 1)]
    [far] = listed(ground, prepared, revdeps_of=["comp.5"])
    distances = {item["name"]: item["distance"] for item in far["revdeps"]}
    assert (distances["lang"], distances["lib_a"], distances["tested"], distances["uses-tested"]) == (1, 2, 3, 4)
