"""formulas: versions compare as dpkg has it, and formulas mean what opam means by them."""

from __future__ import annotations

import shutil
import subprocess
from typing import Dict, List, Union

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from opam_sandbox.debian_versions import compare_versions
from opam_sandbox.opam.formulas import Dependencies, dependencies, depexts, evaluate
from opam_sandbox.opam.opamfile import Value, parse

VARIABLES: Dict[str, Union[bool, str]] = {
    "os": "linux",
    "os-distribution": "debian",
    "os-family": "debian",
    "os-version": "13",
    "arch": "x86_64",
    "build": True,
    "with-test": False,
    "with-doc": False,
    "dev": False,
}


def value(text: str) -> Value:
    found = parse(f"x: {text}", "t")[0].value
    assert found is not None
    return found


def depends(text: str, solution: Dict[str, str], version: str = "1.0", **variables: Union[bool, str]) -> Dependencies:
    return dependencies([value(text)], "me", version, solution, {**VARIABLES, **variables})


_versions = st.text("0019aAzZ.+~", max_size=7)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg")
@settings(max_examples=100)
@given(_versions, _versions)
@example("1.0", "1.0.0")
@example("1.0~", "1.0")
@example("1.0~~a", "1.0~")
@example("1.0a", "1.0+")
@example("00", "0")
@example("", "0")
@example("a", "1")
@example("1", "1~0")
def test_versions_compare_as_in_dpkg(left: str, right: str) -> None:
    done = {
        op: subprocess.run(["dpkg", "--compare-versions", f"1{left}", op, f"1{right}"], check=False).returncode
        for op in ("lt", "gt")
    }
    assume(2 not in done.values())
    order = compare_versions(f"1{left}", f"1{right}")
    assert (order < 0, order > 0) == (done["lt"] == 0, done["gt"] == 0)


@given(_versions, _versions, _versions)
def test_versions_are_in_order(a: str, b: str, c: str) -> None:
    """An order: the other way round is the opposite, and it carries over."""
    assert compare_versions(a, b) == -compare_versions(b, a)
    if compare_versions(a, b) <= 0 and compare_versions(b, c) <= 0:
        assert compare_versions(a, c) <= 0


@pytest.mark.parametrize(
    "text, truth",
    [
        ("true", True),
        ("with-test", False),
        ("!with-test & build", True),
        ("unknown", None),
        ("unknown & with-test", False),
        ("unknown | build", True),
        ("unknown | with-test", None),
        ("!unknown", None),
        ('os = "linux" & os-version >= "12"', True),
        ('os-version < "9"', False),
        ('arch != "arm64"', True),
        ('unknown = "x"', None),
        ("?unknown", False),
        ("?os", True),
        ('(os = "macos" | os-family = "debian")', True),
    ],
)
def test_filters(text: str, truth: object) -> None:
    assert evaluate(value(text), VARIABLES) is truth


SOLUTION = {
    "ocaml": "5.3.0",
    "dune": "3.17.2",
    "cppo": "1.8.0",
    "lwt": "5.6.1",
    "alcotest": "1.8.0",
    "me": "1.0",
    "b": "2.0",
}


@pytest.mark.parametrize(
    "text, build, post",
    [
        ('["ocaml" {>= "4.08"} "dune" {>= "3.0" & build} "absent"]', ["dune", "ocaml"], []),
        ('["alcotest" {with-test} "dune"]', ["dune"], []),
        ('["lwt" {with-test & post} "dune"]', ["dune"], []),
        ('["lwt" {post} "dune" {post & >= "9"}]', [], ["lwt"]),
        ('["lwt" {!post}]', ["lwt"], []),
        ('["lwt" {post} "lwt" {>= "5"}]', ["lwt"], []),
        ('[("absent" | "b") "cppo" {< "1"}]', ["b"], []),
        ('[("lwt" {>= "6"} | "b" {= "2.0"})]', ["b"], []),
        ('["lwt" {>= "5" & < "5.6.1" | = "5.6.1"}]', ["lwt"], []),
        ('["me" {>= "0"} "dune"]', ["dune"], []),
        ('["lwt" {os = "win32"} "dune" {os = "linux"} "cppo" {os-distribution != "debian"}]', ["dune"], []),
        ('[("lwt" & "alcotest") {with-test} "dune"]', ["dune"], []),
        ('"dune"', ["dune"], []),
        ("[]", [], []),
    ],
)
def test_dependencies(text: str, build: List[str], post: List[str]) -> None:
    """What a realistic `depends` means within a solution."""
    assert depends(text, SOLUTION) == Dependencies(tuple(build), tuple(post))


def test_with_test_counts_where_it_is_asked_for() -> None:
    assert depends('["alcotest" {with-test}]', SOLUTION, **{"with-test": True}).build == ("alcotest",)


def test_the_packages_own_version() -> None:
    """`{= version}`, as in packages that come in pairs."""
    assert depends('["lwt" {= version}]', SOLUTION, version="5.6.1").build == ("lwt",)
    assert depends('["lwt" {= version}]', SOLUTION, version="5.6.2").build == ()


def test_depopts_count_as_depends() -> None:
    """What of the optional dependencies is in the solution has to be there before the build."""
    formulas = [value('["ocaml"]'), value('["lwt" {< "5"} "b" "absent"]')]
    assert dependencies(formulas, "me", "1.0", SOLUTION, VARIABLES).build == ("b", "ocaml")


@pytest.mark.parametrize(
    "text, names",
    [
        ('[["libssl-dev"] {os-family = "debian"} ["openssl-devel"] {os-distribution = "fedora"}]', ["libssl-dev"]),
        (
            '[["zlib1g-dev" "libssl-dev"] {os-family = "debian"} ["zlib1g-dev"] {os = "linux"}]',
            ["libssl-dev", "zlib1g-dev"],
        ),
        (
            '[["a"] {os-distribution = "debian" & os-version >= "12"} ["b"] {os-distribution = "debian" & os-version < "12"}]',
            ["a"],
        ),
        ('[["a"] {os-distribution = "alpine" | os-family = "debian"}]', ["a"]),
        ('[["gmp"] {unknown = "x"}]', []),
        ('["pkg-config"] {os-family = "debian"}', ["pkg-config"]),
        ('["pkg-config"]', ["pkg-config"]),
        ("[]", []),
    ],
)
def test_depexts(text: str, names: List[str]) -> None:
    assert depexts(value(text), VARIABLES) == names
