"""The order in which dpkg is told to install: whatever the packages, each step meets the Pre-Depends that dpkg asks for."""

from __future__ import annotations

import shutil
import subprocess
from typing import Dict, List, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opam_sandbox.building.install_order import Control, Deadlock, Step, is_configured, read_control, steps
from opam_sandbox.debian_versions import compare_debian


def control(name: str, **fields: str) -> Control:
    lines = [f"{key.replace('_', '-').title()}: {value}" for key, value in fields.items()]
    return read_control("\n".join([f"Package: {name}", "Version: 1", *lines]))


def test_relations_are_read() -> None:
    found = read_control(
        "Package: a\nVersion: 1:2-3\nProvides: v (= 3), w\nPre-Depends: x:any (>= 1.2~) | y [amd64],\n z (<< 2) , \nDepends:\n"
    )
    assert found == Control(
        "a", "1:2-3", [[("v", "=", "3")], [("w", "", "")]],
        [[("x", ">=", "1.2~"), ("y", "", "")], [("z", "<<", "2")]], [],
    )  # fmt: skip


def test_without_pre_depends_there_is_one_step() -> None:
    debs = [control("a", depends="b"), control("b", depends="a, base (>= 1)")]
    assert steps(debs, [control("base")]) == [Step((0, 1), (0, 1))]
    assert steps([], []) == []


def test_the_bases_version_may_be_too_old() -> None:
    new = read_control("Package: base\nVersion: 2")
    assert steps([control("a", pre_depends="base (>= 2)"), new], [control("base")]) == [
        Step((1,), (1,)), Step((0,), (0,))
    ]  # fmt: skip
    assert steps([control("a", pre_depends="base (>= 1)"), new], [control("base")]) == [Step((0, 1), (0, 1))]


def test_what_is_configured_early_has_what_it_depends_on() -> None:
    """b cannot be configured before c, which waits for d."""
    debs = [
        control("a", pre_depends="b"),
        control("b", depends="c"),
        control("c", pre_depends="d", depends="b"),
        control("d"),
    ]
    assert steps(debs, []) == [Step((1, 3), (3,)), Step((2,), (1, 2)), Step((0,), (0,))]


@pytest.mark.parametrize("wanted", ["nothing", "b (>= 2)", "v (= 1)"])
def test_what_nobody_has(wanted: str) -> None:
    with pytest.raises(Deadlock) as caught:
        steps([control("a", pre_depends=wanted), control("b", provides="v")], [])
    assert str(caught.value) == f"a pre-depends on {wanted}"


NAMES = [f"p{number}" for number in range(6)]
LINKS = st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), max_size=3))


@given(LINKS, LINKS)
def test_every_step_meets_what_dpkg_asks(pre: Dict[str, Set[str]], depends: Dict[str, Set[str]]) -> None:
    debs = [
        control(
            name, pre_depends=", ".join(sorted(pre.get(name, ()))), depends=", ".join(sorted(depends.get(name, ())))
        )
        for name in NAMES
    ]
    try:
        order = steps(debs, [])
    except Deadlock:
        assert any(pre.values())
        return
    unpacked: List[str] = []
    configured: Set[str] = set()
    for step in order:
        for place in step.unpack:
            assert pre.get(NAMES[place], set()) <= configured
            unpacked.append(NAMES[place])
        now = {NAMES[place] for place in step.configure}
        assert now <= set(unpacked) - configured
        assert all(depends.get(name, set()) <= configured | now for name in now)
        configured |= now
    assert sorted(unpacked) == NAMES and configured == set(NAMES)


@pytest.mark.parametrize(
    "status, expected",
    [("installed", True), ("triggers-pending", True), ("triggers-awaited", False), ("unpacked", False), ("", False)],
)
def test_who_can_be_relied_on(status: str, expected: bool) -> None:
    assert is_configured(f"Package: a\nStatus: install ok {status}") is expected


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="compares with dpkg")
def test_versions_are_compared_as_dpkg_does() -> None:
    versions = [
        "1",
        "1.0",
        "1-1",
        "1-0",
        "0:1",
        "1:0.5",
        "1~rc1",
        "1~rc1-1",
        "1+b1",
        "1-1+b2",
        "1.2-3-4",
        "2a",
        "2.a",
        "10",
    ]
    for left in versions:
        for right in versions:
            order = compare_debian(left, right)
            relation = "lt" if order < 0 else "gt" if order > 0 else "eq"
            assert subprocess.run(["dpkg", "--compare-versions", left, relation, right]).returncode == 0, (
                left,
                relation,
                right,
            )
