"""A health report as one page that needs nothing but itself; whole logs lie beside it."""

from __future__ import annotations

from typing import Mapping

from opam_oci.health import graph_svg, timeline
from opam_oci.health.compare import Change, Comparison
from opam_oci.health.facts import (
    Blocker,
    count_statuses,
    is_accepted,
    log_of,
    rank_failures,
    reason_of,
    sorted_roots,
)
from opam_oci.health.html_roots import changes_of, root_key, write_filters, write_roots
from opam_oci.health.html_text import chip
from opam_oci.health.looks import KINDS, LOOKS, root_title, run_line, seconds_text
from opam_oci.health.paths import log_path
from opam_oci.health.results import HealthReport, PackageResult, RootResult, Status
from opam_oci.health.results_json import has_log_file
from opam_oci.pages.document import Section, data_file, write_document
from opam_oci.pages.html_text import cell, figure, lines, link, table, text
from opam_oci.pages.plain_text import end_of

# With more packages those that were built have a row in no list.
_ALL_PACKAGES = 300
_LOG_LINES, _LOG_CHARACTERS, _LOGS = 60, 8_000, 3_000_000
_MOST_DEPENDS, _SLOWEST, _MOST_BLOCKERS = 60, 25, 50


def write_html(report: HealthReport, logs: Mapping[str, str], comparison: Comparison | None) -> str:
    """The page, the same for the same report."""
    style = graph_svg.STYLE + timeline.STYLE + _chips() + data_file("opam_oci.health", "roots.css")
    page = _Page(report, logs, comparison)
    header = f"<p>{text(run_line(report))}</p>\n{page.repositories()}{page.counts()}"
    return write_document(
        f"Health of {report.target}", header, page.sections(), style, skip=("all-roots", "To the table of roots")
    )


def _chips() -> str:
    return "".join(
        f".s-{status.value} {{ background: {look.fill}; border-color: {look.line}; }}\n"
        for status, look in LOOKS.items()
    )


class _Page:
    def __init__(self, report: HealthReport, logs: Mapping[str, str], comparison: Comparison | None) -> None:
        self._report = report
        self._logs = logs
        self._comparison = comparison
        self._failures = rank_failures(report)
        every = len(report.packages) <= _ALL_PACKAGES
        order = [package for blocker in self._failures for package in blocker.packages]
        failed = {package.id for package in order}
        order += [
            report.packages[id]
            for id in sorted(report.packages)
            if id not in failed and (every or report.packages[id].status is not Status.SUCCESS)
        ]
        self._detailed = order
        self._unsolved = [root for root in sorted_roots(report) if root.package not in report.packages]
        self._anchors = {package.id: f"p{number}" for number, package in enumerate(order)}
        self._anchors.update({root_key(root): f"r{number}" for number, root in enumerate(self._unsolved)})
        self._log_size = max(min(_LOG_CHARACTERS, _LOGS // max(len(order), 1)), 500)

    def repositories(self) -> str:
        if not self._report.repositories:
            return ""
        names = ", ".join(f"<code>{text(line)}</code>" for line in self._report.repositories)
        return f'<p class="soft">Repositories: {names}</p>\n'

    def counts(self) -> str:
        items = (f"<li><b>{count}</b>{chip(status)}</li>" for status, count in count_statuses(self._report).items())
        accepted = sum(is_accepted(self._report, root) for root in self._report.roots)
        note = f"<p>{accepted} of these fail as their opam files accept, and do not count.</p>\n" if accepted else ""
        return f'<ul class="counts">{"".join(items)}</ul>\n{note}'

    def sections(self) -> list[Section]:
        """The parts of the page."""
        changes = changes_of(self._comparison)
        roots = write_filters(self._report, changes) + write_roots(self._report, changes, self._anchors)
        return [
            Section("baseline", "Since the baseline", self._since_baseline()),
            Section("failures", "Failures, by what they stop", self._blockers()),
            Section("all-roots", "Roots", roots),
            Section("packages", "Packages", self._packages()),
            Section("timings", "Slowest builds", self._slowest()),
            Section("timeline", "Timeline of builds", figure(timeline.draw(self._report), "Timeline, scrollable")),
            Section("graph", "Graph", figure(graph_svg.draw(self._report), "Graph, scrollable")),
        ]

    def _since_baseline(self) -> str:
        comparison = self._comparison
        if comparison is None:
            return ""
        parts = [] if comparison.broke_something else ["<p>No root that was built before fails now.</p>\n"]
        parts.append(self._changes("Regressions", comparison.regressions, unfolded=True))
        for group in comparison.blocked:
            title = f"Stopped by {self._name(group.cause)}: {text(group.cause.reason)}"
            parts.append(self._changes(title, group.changes))
        for title, changes in comparison.others:
            parts.append(self._changes(title, changes))
        return "".join(parts)

    def _changes(self, title: str, changes: tuple[Change, ...], unfolded: bool = False) -> str:
        if not changes:
            return ""
        items = "".join(f"<li>{self._change(change)}</li>\n" for change in changes)
        open = " open" if unfolded else ""
        return f"<details{open}><summary>{title} ({len(changes)})</summary><div><ul>\n{items}</ul></div></details>\n"

    def _change(self, change: Change) -> str:
        root = change.root
        version = f" ({text(change.version_change)})" if change.version_change else ""
        reason = ""
        if change.after is not None and root.status is not Status.SUCCESS:
            reason = f" {text(reason_of(self._report, root))}"
        anchor = self._anchors.get(root.package) or self._anchors.get(root_key(root)) if change.after else None
        name = text(root_title(root))
        return f"{chip(root.status)} {link(f'#{anchor}', name) if anchor else name}{version}{reason}"

    def _blockers(self) -> str:
        rows = [self._blocker(blocker) for blocker in self._failures[:_MOST_BLOCKERS]]
        if not rows:
            return ""
        left = len(self._failures) - len(rows)
        note = f"<p>{left} more that stop least are below, among the packages.</p>\n" if left else ""
        head = [("Package", False), ("Status", False), ("Why", False), ("Reason", False)]
        return table([*head, ("Stops roots", True), ("and packages", True)], rows) + note

    def _blocker(self, blocker: Blocker) -> str:
        package = blocker.first
        cells = [
            cell("Status", chip(package.status) + (" accepted" if package.accept_failures else "")),
            cell("Why", text(KINDS[package.kind])),
            cell("Reason", text(package.reason)),
            cell("Stops roots", str(blocker.roots), number=True),
            cell("and packages", str(blocker.dependents), number=True),
        ]
        return f'<tr><th scope="row">{self._name(package)}</th>{"".join(cells)}</tr>'

    def _packages(self) -> str:
        parts = []
        left = len(self._report.packages) - len(self._detailed)
        if left:
            parts.append(f"<p>{left} packages that were built are in <code>results.json</code> only.</p>\n")
        parts += [self._details(package) for package in self._detailed]
        parts += [self._explanation(root) for root in self._unsolved]
        return "".join(parts)

    def _details(self, package: PackageResult) -> str:
        facts = [("Id", f"<code>{text(package.id)}</code>"), ("Why", text(KINDS[package.kind]))]
        facts += [("Reason", text(package.reason, 2000)), ("Build", self._built(package))]
        if package.layer:
            facts.append(("Layer", f"<code>{text(package.layer)}</code>, {package.size} bytes"))
        for title, ids in (("Stopped by", package.blocked_by), ("Depends on", package.depends)):
            known = [self._name(self._report.packages[id]) for id in ids if id in self._report.packages]
            more = f" and {len(known) - _MOST_DEPENDS} more" if len(known) > _MOST_DEPENDS else ""
            facts.append((title, ", ".join(known[:_MOST_DEPENDS]) + more))
        rows = "".join(f"<dt>{title}</dt><dd>{value}</dd>" for title, value in facts if value)
        accepted = " accepted" if package.accept_failures and package.status is not Status.SUCCESS else ""
        return (
            f"<details><summary>{chip(package.status)}{accepted} {text(package.full_name)}</summary>"
            f'<div id="{self._anchors[package.id]}"><dl>{rows}</dl>\n{self._log(package)}</div></details>\n'
        )

    def _log(self, package: PackageResult) -> str:
        log = log_of(self._report, package, self._logs)
        if not log:
            return ""
        shown = lines(end_of(log, _LOG_LINES, self._log_size))
        if not has_log_file(package):
            return shown
        return f"{shown}<p>{link(log_path(package), 'The whole log')}</p>\n"

    def _built(self, package: PackageResult) -> str:
        if package.cached:
            return "known from a cache" + (f", took {seconds_text(package.seconds)}" if package.seconds else "")
        if package.seconds is None:
            return ""
        began = f", began after {seconds_text(package.started)}" if package.started is not None else ""
        return seconds_text(package.seconds) + began

    def _explanation(self, root: RootResult) -> str:
        return (
            f"<details><summary>{chip(root.status)} {text(root_title(root))}</summary>"
            f'<div id="{self._anchors[root_key(root)]}">{lines(end_of(root.reason, 200, _LOG_CHARACTERS))}</div></details>\n'
        )

    def _slowest(self) -> str:
        built = [package for package in self._report.packages.values() if package.seconds and not package.cached]
        built.sort(key=lambda package: (-(package.seconds or 0), package.id))
        rows = [
            f'<tr><th scope="row">{self._name(package)}</th>{cell("Status", chip(package.status))}'
            f"{cell('Took', text(seconds_text(package.seconds)), number=True)}"
            f"{cell('Began after', text(seconds_text(package.started)), number=True)}</tr>"
            for package in built[:_SLOWEST]
        ]
        head = [("Package", False), ("Status", False), ("Took", True), ("Began after", True)]
        total = sum(package.seconds or 0 for package in built)
        return f"<p>{len(built)} builds took {seconds_text(total)} together.</p>\n" + table(head, rows) if rows else ""

    def _name(self, package: PackageResult) -> str:
        anchor = self._anchors.get(package.id)
        return link(f"#{anchor}", text(package.full_name)) if anchor else text(package.full_name)
