"""A health report for a merge request, as GitHub and GitLab show Markdown."""

from __future__ import annotations

from html import escape
from typing import Iterable, Mapping, Sequence

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
from opam_oci.pages.markdown_text import code
from opam_oci.pages.plain_text import end_of

# GitHub takes 65,536 characters. Counted are bytes, of which there are never fewer, and some are left for whoever adds a line.
LIMIT = 65_000
# Kept for what says that something is left out, of each section.
_ROOM = 400
_SHOWN = 12
_LOG_LINES, _LOG_CHARACTERS = 30, 3_000


def write_markdown(report: HealthReport, logs: Mapping[str, str], comparison: Comparison | None) -> str:
    """The most important comes first, and what has no room is left out from the end. At most LIMIT bytes."""
    page = _Page(f"## Health of {code(report.target)}\n\n{code(run_line(report), 400)}\n\n")
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
        log = end_of(log_of(report, blocker.first, logs), _LOG_LINES, _LOG_CHARACTERS)
        if log:
            title = f"End of the log of {code(blocker.first.full_name)}"
            page.add(f"<details><summary>{title}</summary>\n\n<pre>\n{escape(log)}\n</pre>\n\n</details>\n\n")
    return page.text()


class _Page:
    """Markdown of a bounded size. What does not fit any more is counted."""

    def __init__(self, head: str) -> None:
        self._parts = [head]
        self._room = LIMIT - len(head.encode()) - _ROOM
        self._left_out = 0

    def add(self, text: str) -> bool:
        size = len(text.encode())
        if size > self._room:
            # Nothing that comes later is more important.
            self._room = 0
            self._left_out += 1
            return False
        self._parts.append(text)
        self._room -= size
        return True

    def table(self, head: str, rows: Iterable[str], title: str = "") -> None:
        columns = head.count("|") + 1
        begin = f"| {head} |\n|{' --- |' * columns}\n"
        self._list(title, [f"| {row} |\n" for row in rows], begin)

    def section(self, title: str, items: Sequence[str]) -> None:
        self._list(title, [f"- {item}\n" for item in items], "")

    def _list(self, title: str, rows: Sequence[str], begin: str) -> None:
        """The first rows, and the others folded."""
        if not rows:
            return
        head = f"### {title} ({len(rows)})\n\n{begin}" if title else begin
        if not self.add(head):
            self._left_out += len(rows) - 1
            return
        shown = rows if len(rows) <= _SHOWN + 3 else rows[:_SHOWN]
        self._rows(shown)
        rest = rows[len(shown) :]
        if rest:
            # With room for what ends it.
            end = "\n</details>\n"
            self._room -= len(end)
            if self.add(f"\n<details><summary>{len(rest)} more</summary>\n\n{begin}"):
                self._rows(rest)
                self._parts.append(end)
        self._parts.append("\n")

    def _rows(self, rows: Sequence[str]) -> None:
        for number, row in enumerate(rows):
            if not self.add(row):
                self._left_out += len(rows) - number - 1
                return

    def text(self) -> str:
        note = ""
        if self._left_out:
            note = f"{self._left_out} more rows and logs had no room here: see `results.json` and `index.html`.\n"
        text = "".join(self._parts) + note
        assert len(text.encode()) <= LIMIT
        return text


def _broken(page: _Page, report: HealthReport, comparison: Comparison) -> None:
    """What the change is to be blamed for."""
    if not comparison.broke_something:
        page.add("No root that was built before fails now.\n\n")
    page.section("Regressions", [_change(report, change) for change in comparison.regressions])
    for group in comparison.blocked:
        roots = [_change(report, change, reason=False) for change in group.changes]
        page.section(f"Stopped by {code(group.cause.full_name)}: {code(group.cause.reason)}", roots)


def _others(page: _Page, report: HealthReport, comparison: Comparison) -> None:
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
