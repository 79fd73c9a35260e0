"""A health report for a merge request, as GitHub and GitLab show Markdown."""

from __future__ import annotations

from typing import Mapping

from opam_oci.health.compare import Change, Comparison
from opam_oci.health.facts import (
    Blocker,
    count_statuses,
    is_accepted,
    kind_of,
    log_of,
    rank_failures,
    reason_of,
    sorted_roots,
)
from opam_oci.health.looks import KINDS, LOOKS, root_title, run_line
from opam_oci.health.results import HealthReport, RootResult, Status
from opam_oci.pages.markdown_page import Page
from opam_oci.pages.markdown_text import code

_WHOLE = "`results.json` and `index.html`"


def write_markdown(report: HealthReport, logs: Mapping[str, str], comparison: Comparison | None) -> str:
    """The most important comes first, and what has no room is left out from the end. At most `markdown_page.LIMIT` bytes."""
    page = Page(f"## Health of {code(report.target)}\n\n{code(run_line(report), 400)}\n\n", _WHOLE)
    page.table("Status | Roots", (f"{LOOKS[s].mark} {LOOKS[s].word} | {n}" for s, n in count_statuses(report).items()))
    accepted = sum(is_accepted(report, root) for root in report.roots)
    if accepted:
        page.add(f"{accepted} of these fail as their opam files accept, and do not count.\n\n")
    if comparison is not None:
        _broken(page, report, comparison)
    failures = rank_failures(report)
    page.table(
        "Failure | Why | Stops roots | and packages",
        [_failure(blocker) for blocker in failures],
        title="Failures, by what they stop",
    )
    unsolved = [root for root in sorted_roots(report) if root.status is Status.NO_SOLUTION]
    page.section("No solution", [_root(report, root) for root in unsolved])
    if comparison is not None:
        _others(page, report, comparison)
    for blocker in failures[:20]:
        page.log(blocker.first.full_name, log_of(report, blocker.first, logs))
    return page.text()


def _broken(page: Page, report: HealthReport, comparison: Comparison) -> None:
    """What the change is to be blamed for."""
    if not comparison.broke_something:
        page.add("No root that was built before fails now.\n\n")
    page.section("Regressions", [_change(report, change) for change in comparison.regressions])
    for group in comparison.blocked:
        roots = [_change(report, change, reason=False) for change in group.changes]
        page.section(f"Stopped by {code(group.cause.full_name)}: {code(group.cause.reason)}", roots)


def _others(page: Page, report: HealthReport, comparison: Comparison) -> None:
    for title, changes in comparison.others:
        page.section(title, [_change(report, change) for change in changes])


def _change(report: HealthReport, change: Change, reason: bool = True) -> str:
    version = f" ({code(change.version_change)})" if change.version_change else ""
    return _root(report, change.root, reason and change.after is not None) + version


def _root(report: HealthReport, root: RootResult, reason: bool = True) -> str:
    look = LOOKS[root.status]
    kind = KINDS[kind_of(report, root)]
    said = ", ".join(part for part in (look.word, kind) if part)
    text = f"{look.mark} {code(root_title(root))} {said}"
    why = code(reason_of(report, root)) if reason and root.status is not Status.SUCCESS else ""
    return f"{text}: {why}" if why else text


def _failure(blocker: Blocker) -> str:
    package = blocker.first
    look = LOOKS[package.status]
    said = ", ".join(part for part in (look.word, KINDS[package.kind]) if part)
    accepted = ", accepted" if package.accept_failures else ""
    why = f"{said}{accepted}. {code(package.reason)}"
    return f"{look.mark} {code(package.full_name)} | {why} | {blocker.roots} | {blocker.dependents}"
