"""A health report in some lines of plain text, as a terminal shows it."""

from __future__ import annotations

from typing import Sequence

from opam_oci.health.compare import Change, Comparison
from opam_oci.health.facts import count_statuses, is_accepted, kind_of, rank_failures, reason_of
from opam_oci.health.looks import KINDS, LOOKS, root_title, run_line
from opam_oci.health.results import HealthReport, Status
from opam_oci.pages.plain_text import one_line

_MOST_FAILURES, _MOST_REGRESSIONS, _MOST_UNSOLVED = 8, 5, 2
_WIDTH = 160


def summary(report: HealthReport, comparison: Comparison | None = None) -> str:
    """At most some 30 lines: counts by status, what a change broke, failures by how many roots they stop."""
    lines = [f"{report.target}: {run_line(report)}"]
    lines += [f"  {count:>6} {LOOKS[status].word}" for status, count in count_statuses(report).items()]
    accepted = sum(is_accepted(report, root) for root in report.roots)
    if accepted:
        lines.append(f"  {accepted} of these fail as their opam files accept, and do not count.")
    if comparison is not None:
        lines += _compared(report, comparison)
    failures = []
    for blocker in rank_failures(report):
        package = blocker.first
        why = KINDS[package.kind] or LOOKS[package.status].word
        stops = f", stops {_count(blocker.roots, 'root')}" if blocker.roots else ""
        failures.append(_said(f"{package.full_name} ({why}{stops})", package.reason))
    lines += _listed("Failures:", failures, _MOST_FAILURES)
    unsolved = [
        _said(root_title(root), root.reason)
        for root in sorted(report.roots, key=root_title)
        if root.status is Status.NO_SOLUTION
    ]
    lines += _listed("No solution:", unsolved, _MOST_UNSOLVED)
    return "\n".join(one_line(line, _WIDTH) if line[:1] != " " else f"  {one_line(line, _WIDTH)}" for line in lines)


def _compared(report: HealthReport, comparison: Comparison) -> list[str]:
    counts = [
        ("regressions", len(comparison.regressions)),
        ("stopped by others' failures", comparison.blocked_roots),
        ("fixed", len(comparison.fixes)),
        ("new", len(comparison.new)),
        ("gone", len(comparison.gone)),
        ("still failing", len(comparison.still_failing) + len(comparison.changed)),
        ("not tried", len(comparison.untried)),
        ("without a source", len(comparison.missing_sources)),
    ]
    said = ", ".join(f"{count} {what}" for what, count in counts if count)
    lines = [f"Compared with the baseline: {said or 'nothing differs'}."]
    broken = [_regression(report, change) for change in comparison.regressions]
    for group in comparison.blocked:
        stopped = f"{_count(len(group.changes), 'root')} stopped by {group.cause.full_name}"
        broken.append(_said(stopped, group.cause.reason))
    return lines + _listed("Built before, and not now:", broken, _MOST_REGRESSIONS)


def _regression(report: HealthReport, change: Change) -> str:
    version = f", {change.version_change}" if change.version_change else ""
    why = KINDS[kind_of(report, change.root)] or LOOKS[change.root.status].word
    return _said(f"{root_title(change.root)} ({why}{version})", reason_of(report, change.root))


def _listed(title: str, items: Sequence[str], most: int) -> list[str]:
    if not items:
        return []
    lines = [title, *(f"  {item}" for item in items[:most])]
    if len(items) > most:
        lines.append(f"  ... and {len(items) - most} more")
    return lines


def _said(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
