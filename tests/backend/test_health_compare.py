"""compare: what a change broke, and whose fault it is."""

from __future__ import annotations

from typing import Tuple

import pytest

from opam_oci.health.compare import Change, Comparison, compare
from opam_oci.health.results import FailureKind, Status
from opam_oci.health.summary import summary
from tests.backend.health_reports import package, report, root, unsolved

LISTS = ("regressions", "missing_sources", "untried", "accepted", "fixes", "changed", "still_failing", "new", "gone")


def places(comparison: Comparison) -> "dict[str, list[str]]":
    found = {name: [change.root.name for change in getattr(comparison, name)] for name in LISTS}
    found["blocked"] = [
        f"{group.cause.name}: {change.root.name}" for group in comparison.blocked for change in group.changes
    ]
    return {name: names for name, names in found.items() if names}


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        (Status.SUCCESS, Status.SUCCESS, ""),
        (Status.SUCCESS, Status.FAILURE, "regressions"),
        (Status.SUCCESS, Status.TIMED_OUT, "regressions"),
        (Status.SUCCESS, Status.NO_DEPEXT, "regressions"),
        (Status.SUCCESS, Status.NO_SOURCE, "missing_sources"),
        (Status.SUCCESS, Status.CANCELLED, "untried"),
        (Status.SUCCESS, Status.NOT_BUILT, "untried"),
        # One whose cause is not known is not lost.
        (Status.SUCCESS, Status.DEPENDENCY_FAILED, "regressions"),
        (Status.FAILURE, Status.SUCCESS, "fixes"),
        (Status.NOT_BUILT, Status.SUCCESS, "fixes"),
        (Status.FAILURE, Status.FAILURE, "still_failing"),
        (Status.FAILURE, Status.TIMED_OUT, "changed"),
        (Status.NO_SOURCE, Status.FAILURE, "changed"),
        (Status.FAILURE, Status.CANCELLED, ""),
    ],
)
def test_statuses(before: Status, after: Status, place: str) -> None:
    comparison = compare(report(package("a", before)), report(package("a", after)))
    assert places(comparison) == ({place: ["a"]} if place else {})
    assert comparison.broke_something is (place == "regressions")


def test_a_root_is_listed_below_the_failure_that_stops_it() -> None:
    below = package("below", Status.FAILURE)
    gone = package("gone", Status.NO_SOURCE)
    above = package("above", Status.DEPENDENCY_FAILED, depends=(below.id,), blocked_by=(below.id,))
    other = package("other", Status.DEPENDENCY_FAILED, depends=(gone.id,), blocked_by=(gone.id,))
    both = package("both", Status.DEPENDENCY_FAILED, depends=(gone.id, below.id), blocked_by=(gone.id, below.id))
    roots = [root(above), root(other), root(both)]
    after = report(below, gone, above, other, both, roots=roots)
    before = report(*(package(name) for name in ("above", "other", "both")))
    comparison = compare(before, after)
    assert places(comparison) == {
        "blocked": ["below: above", "below: both", "gone: both"],
        "missing_sources": ["other"],
    }
    assert comparison.broke_something and comparison.blocked_roots == 2
    assert "2 roots stopped by below.1.0" in summary(after, comparison)


def test_what_only_a_later_package_stops() -> None:
    later = package("later", Status.FAILURE)
    own = package("own")
    after = report(own, later, roots=[root(own, status=Status.DEPENDENCY_FAILED, later=(later.id,))])
    assert places(compare(report(package("own")), after)) == {"blocked": ["later: own"]}


def test_accepted_failures_are_no_regressions() -> None:
    after = report(package("a", Status.FAILURE, accept_failures=True))
    comparison = compare(report(package("a")), after)
    assert places(comparison) == {"accepted": ["a"]} and not comparison.broke_something


def test_no_solution_any_more() -> None:
    comparison = compare(report(package("a")), report(roots=[unsolved("a", "a conflict")]))
    assert places(comparison) == {"regressions": ["a"]}
    assert comparison.regressions[0].version_change == ""


def versions(*names: str) -> Tuple[object, ...]:
    return tuple(package("a", version=name) for name in names)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (("1",), ("2",), {}),
        (("1", "2"), ("2", "3"), {"new": ["a"], "gone": ["a"]}),
        (("1",), ("1", "2"), {"new": ["a"]}),
        (("1", "2"), ("2",), {"gone": ["a"]}),
    ],
)
def test_versions(before: Tuple[str, ...], after: Tuple[str, ...], found: "dict[str, list[str]]") -> None:
    assert places(compare(report(*versions(*before)), report(*versions(*after)))) == found


def test_another_version_of_the_same_root() -> None:
    comparison = compare(report(package("a")), report(package("a", Status.FAILURE, version="2.0")))
    [change] = comparison.regressions
    assert change.version_change == "1.0 -> 2.0" and change.kind is FailureKind.BUILD
    assert isinstance(change, Change) and "1.0 -> 2.0" in summary(
        report(package("a", Status.FAILURE, version="2.0")), comparison
    )


def test_compilers_are_apart() -> None:
    good, bad = package("a"), package("a", Status.FAILURE)
    before = report(good, roots=[root(good, compiler="ocaml=5.3.0"), root(good, compiler="ocaml=4.14.2")])
    after = report(bad, roots=[root(bad, compiler="ocaml=5.3.0")])
    comparison = compare(before, after)
    assert [change.root.compiler for change in comparison.regressions] == ["ocaml=5.3.0"]
    assert [change.root.compiler for change in comparison.gone] == ["ocaml=4.14.2"]


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("Error: Unbound module Fox", "Error: Unbound module Hen", "changed"),
        ("killed after 31.5 s, seed 77", "killed after 32.1 s, seed 12", "still_failing"),
    ],
)
def test_reasons(before: str, after: str, place: str) -> None:
    old, new = (report(package("a", Status.FAILURE, reason=reason)) for reason in (before, after))
    assert places(compare(old, new)) == {place: ["a"]}
