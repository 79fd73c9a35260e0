"""Which packages a drawing shows: all, or, where these are too many to see anything, failures and what they stop."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Mapping

from opam_oci.health.facts import OWN_FAILURES, rank_failures
from opam_oci.health.results import HealthReport, PackageResult, Status

# As many boxes as a drawing may have with what succeeded, and without.
MOST_WITH_SUCCESSES = 120
MOST = 300


@dataclass(frozen=True)
class Graph:
    """nodes: sorted ids; edges: id -> ids of what it depends on, both shown; more: id -> how many packages that it stops are
    not shown; notes: what is left out, in whole sentences."""

    nodes: tuple[str, ...]
    edges: Mapping[str, tuple[str, ...]]
    more: Mapping[str, int]
    notes: tuple[str, ...]


def choose(report: HealthReport) -> Graph:
    """What to draw, the most important failures first where even these are too many."""
    packages = report.packages
    if len(packages) <= MOST_WITH_SUCCESSES:
        return _graph(packages, set(packages), ())
    kept: set[str] = set()
    failures = 0
    for blocker in rank_failures(report):
        failures += len(blocker.packages)
        for package in blocker.packages:
            if len(kept) < MOST:
                kept.add(package.id)
    shown = len(kept)
    stopped = [id for id in sorted(packages) if packages[id].blocked_by and id not in kept]
    # Those first that stand closest to a failure.
    for id in sorted(stopped, key=lambda id: (not any(need in kept for need in packages[id].depends), id)):
        if len(kept) < MOST:
            kept.add(id)
    notes = []
    built = sum(package.status is Status.SUCCESS for package in packages.values())
    if built:
        notes.append(f"{built} packages that were built are not shown.")
    if failures > shown:
        notes.append(f"{failures - shown} failures that stop least are not shown.")
    hidden = len(stopped) - (len(kept) - shown)
    if hidden:
        notes.append(f"{hidden} packages that failures stop are not shown, but counted at them.")
    others = len(packages) - built - failures - len(stopped)
    if others:
        notes.append(f"{others} packages that were not tried are not shown.")
    return _graph(packages, kept, tuple(notes))


def _graph(packages: Mapping[str, PackageResult], kept: set[str], notes: tuple[str, ...]) -> Graph:
    more: dict[str, int] = defaultdict(int)
    for id, package in packages.items():
        if id not in kept:
            for cause in package.blocked_by:
                if cause in kept:
                    more[cause] += 1
    edges = {}
    for id in kept:
        needs = {need for need in packages[id].depends if need in kept and need != id}
        # A failure that is reached through packages that are not shown is pointed to all the same.
        through = {need for need in packages[id].blocked_by if need in kept and need != id}
        if not any(packages[need].blocked_by or packages[need].status in OWN_FAILURES for need in needs):
            needs |= through
        edges[id] = tuple(sorted(needs))
    return Graph(tuple(sorted(kept)), edges, dict(more), notes)
