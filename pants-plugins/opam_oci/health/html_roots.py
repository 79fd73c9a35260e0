"""The page's table of roots, and the form that filters it."""

from __future__ import annotations

from typing import Mapping

from opam_oci.health.compare import Change, Comparison
from opam_oci.health.facts import causes, count_statuses, is_accepted, kind_of, package_of, reason_of, sorted_roots
from opam_oci.health.html_text import chip
from opam_oci.health.looks import KINDS, LOOKS
from opam_oci.health.results import HealthReport, RootResult
from opam_oci.pages.html_text import cell, filters, link, select, table, text

_MOST_CAUSES = 5


def changes_of(comparison: Comparison | None) -> dict[RootResult, str]:
    """Root -> a word for what became of it."""
    if comparison is None:
        return {}
    lists: tuple[tuple[str, tuple[Change, ...]], ...] = (
        ("regression", comparison.regressions),
        ("stopped", tuple(change for group in comparison.blocked for change in group.changes)),
        ("fixed", comparison.fixes),
        ("new", comparison.new),
        ("another reason", comparison.changed),
        ("still failing", comparison.still_failing),
        ("not tried", comparison.untried),
        ("source is gone", comparison.missing_sources),
        ("accepted", comparison.accepted),
    )
    return {change.after: word for word, changes in lists for change in changes if change.after is not None}


def write_filters(report: HealthReport, changes: Mapping[RootResult, str]) -> str:
    """The form above the table."""
    parts = [select("status", "Status", ((s.value, LOOKS[s].word) for s in count_statuses(report)))]
    kinds = sorted({kind.value: KINDS[kind] for root in report.roots if (kind := kind_of(report, root))}.items())
    if kinds:
        parts.append(select("kind", "Why", kinds))
    compilers = sorted({root.compiler for root in report.roots})
    if len(compilers) > 1:
        parts.append(select("compiler", "Compiler", ((name or "-", name or "none asked for") for name in compilers)))
    if changes:
        words = sorted(set(changes.values()))
        parts.append(select("change", "Since the baseline", [*((word, word) for word in words), ("-", "the same")]))
    return filters(parts)


def write_roots(report: HealthReport, changes: Mapping[RootResult, str], anchors: Mapping[str, str]) -> str:
    """anchors: package id, or "root " and a root's title, -> the id of the element that has more of it."""
    head = [
        ("Root", False),
        ("Compiler", False),
        ("Status", False),
        ("Why", False),
        ("Reason", False),
        ("Stopped by", False),
    ]
    head += [("Since the baseline", False)] if changes else []
    head += [("Build seconds", True)]
    rows = (_row(report, root, changes, anchors) for root in sorted_roots(report))
    return table(head, rows, ' id="roots" data-rows="roots"')


def root_key(root: RootResult) -> str:
    """Of a root without a package, in anchors."""
    return f"root {root.name} {root.version} {root.compiler}"


def _row(report: HealthReport, root: RootResult, changes: Mapping[RootResult, str], anchors: Mapping[str, str]) -> str:
    kind = kind_of(report, root)
    package = package_of(report, root)
    change = changes.get(root, "")
    anchor = anchors.get(root.package) or anchors.get(root_key(root))
    name = text(root.full_name)
    stopped_by = causes(report, root)
    named = [_named(cause.full_name, anchors.get(cause.id)) for cause in stopped_by[:_MOST_CAUSES]]
    if len(stopped_by) > _MOST_CAUSES:
        named.append(f"and {len(stopped_by) - _MOST_CAUSES} more")
    accepted = " accepted" if is_accepted(report, root) else ""
    seconds = package.seconds if package else None
    reason = "" if stopped_by and not root.reason else text(reason_of(report, root))
    cells = [
        cell("Compiler", text(root.compiler)),
        cell("Status", chip(root.status) + accepted, LOOKS[root.status].word),
        cell("Why", text(KINDS[kind])),
        cell("Reason", reason),
        cell("Stopped by", ", ".join(named)),
        *([cell("Since the baseline", text(change))] if changes else []),
        cell("Build seconds", f"{seconds:.1f}" if seconds is not None else "", number=True),
    ]
    data = f' data-status="{root.status.value}"'
    for key, value in (("kind", kind.value if kind else ""), ("compiler", root.compiler), ("change", change)):
        if value:
            data += f' data-{key}="{text(value)}"'
    return f'<tr{data}><th scope="row">{_named(root.full_name, anchor) if anchor else name}</th>{"".join(cells)}</tr>'


def _named(name: str, anchor: str | None) -> str:
    return link(f"#{anchor}", text(name)) if anchor else text(name)
