"""What follows from a health report: what a root stands on, what stopped it, and which failures stop most."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Mapping

from opam_oci.health.results import FailureKind, HealthReport, PackageResult, RootResult, Status

# A package's own doing, or its sources' or depexts': what others can be stopped by.
OWN_FAILURES = frozenset({Status.FAILURE, Status.TIMED_OUT, Status.NO_SOURCE, Status.NO_DEPEXT})
# Nobody knows how it would have gone.
UNTRIED = frozenset({Status.CANCELLED, Status.NOT_BUILT})


@dataclass(frozen=True)
class Blocker:
    """A failure, and what could not be built because of it. packages: the results of one version that failed alike over
    different dependencies; roots and dependents: how many roots and other packages it stopped, itself not counted."""

    packages: tuple[PackageResult, ...]
    roots: int
    dependents: int

    @property
    def first(self) -> PackageResult:
        return self.packages[0]


def package_of(report: HealthReport, root: RootResult) -> PackageResult | None:
    """The root's own package, None where it has no solution."""
    return report.packages.get(root.package)


def kind_of(report: HealthReport, root: RootResult) -> FailureKind | None:
    """Why the root's own build failed; None where it was not that."""
    package = package_of(report, root)
    return package.kind if package is not None and root.status is Status.FAILURE else None


def is_accepted(report: HealthReport, root: RootResult) -> bool:
    """Whether the root did not succeed, and its opam file says that this is to be expected here."""
    package = package_of(report, root)
    return (
        package is not None
        and package.accept_failures
        and root.status is not Status.SUCCESS
        and root.status not in UNTRIED
    )


def causes(report: HealthReport, root: RootResult) -> tuple[PackageResult, ...]:
    """The packages whose own failures stopped this root, sorted; none for a root that failed by itself."""
    if root.status is not Status.DEPENDENCY_FAILED:
        return ()
    found: set[str] = set()
    for id in (root.package, *root.later):
        package = report.packages.get(id)
        if package is None:
            continue
        if package.status in OWN_FAILURES:
            found.add(id)
        found.update(package.blocked_by)
    if not found:
        found = {id for id in closure(report, root) if report.packages[id].status in OWN_FAILURES}
    return tuple(report.packages[id] for id in sorted(found - {root.package}) if id in report.packages)


def closure(report: HealthReport, root: RootResult) -> tuple[str, ...]:
    """The ids of all that the root's solution has, sorted, itself too. Circles do no harm."""
    seen: set[str] = set()
    waiting = [root.package, *root.later]
    while waiting:
        id = waiting.pop()
        if id not in seen and id in report.packages:
            seen.add(id)
            waiting.extend(report.packages[id].depends)
    return tuple(sorted(seen))


def rank_failures(report: HealthReport) -> tuple[Blocker, ...]:
    """Failures, those first that stop most roots."""
    roots: dict[str, set[int]] = defaultdict(set)
    dependents: dict[str, set[str]] = defaultdict(set)
    for number, root in enumerate(report.roots):
        for cause in causes(report, root):
            roots[cause.id].add(number)
    for id, package in report.packages.items():
        for cause_id in package.blocked_by:
            dependents[cause_id].add(id)
    alike: dict[tuple[str, str, str, str], list[PackageResult]] = defaultdict(list)
    for id in sorted(report.packages):
        package = report.packages[id]
        if package.status in OWN_FAILURES:
            kind = package.kind.value if package.kind else ""
            alike[package.name, package.version, package.status.value, kind].append(package)
    blockers = [
        Blocker(
            tuple(group),
            len(set().union(*(roots[package.id] for package in group))),
            len(set().union(*(dependents[package.id] for package in group))),
        )
        for group in alike.values()
    ]
    return tuple(sorted(blockers, key=lambda b: (-b.roots, -b.dependents, b.first.full_name, b.first.id)))


def count_statuses(report: HealthReport) -> dict[Status, int]:
    """How many roots have each status, in the statuses' order; those that none has are left out."""
    counts = {status: 0 for status in Status}
    for root in report.roots:
        counts[root.status] += 1
    return {status: count for status, count in counts.items() if count}


def log_of(report: HealthReport, package: PackageResult | None, logs: Mapping[str, str]) -> str:
    """The package's whole log: what the caller has of it, or what the report has."""
    if package is None:
        return ""
    return logs.get(package.id, package.log)


def reason_of(report: HealthReport, root: RootResult) -> str:
    """The root's reason; of one whose dependencies failed their names, where nothing else is said."""
    if root.reason:
        return root.reason
    return ", ".join(package.full_name for package in causes(report, root))


def sorted_roots(report: HealthReport) -> tuple[RootResult, ...]:
    """By name, version and compiler, whatever order they came in. Raises ValueError where two are the same."""
    roots = tuple(sorted(report.roots, key=lambda root: (root.name, root.version, root.compiler)))
    for one, other in zip(roots, roots[1:]):
        if (one.name, one.version, one.compiler) == (other.name, other.version, other.compiler):
            raise ValueError(f"{report.target}: the root {one.full_name} stands twice in its results.")
    return roots
