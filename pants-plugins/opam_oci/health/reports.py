"""All reports of a health check, as files."""

from __future__ import annotations

from typing import Mapping

from opam_oci.health.compare import Comparison
from opam_oci.health.dot import write_dot
from opam_oci.health.facts import log_of
from opam_oci.health.graph_svg import write_svg
from opam_oci.health.html_page import write_html
from opam_oci.health.junit import write_junit
from opam_oci.health.markdown import write_markdown
from opam_oci.health.paths import log_path
from opam_oci.health.results import HealthReport
from opam_oci.health.results_json import has_log_file, write_day10, write_results
from opam_oci.pages.plain_text import clean


def write_reports(
    report: HealthReport, logs: Mapping[str, str] | None = None, comparison: Comparison | None = None
) -> dict[str, bytes]:
    """Path -> content, sorted. logs: package id -> text, of those that the report itself has no log of."""
    logs = logs or {}
    files = {
        "results.json": write_results(report, logs),
        "junit.xml": write_junit(report, logs),
        "report.md": write_markdown(report, logs, comparison),
        "graph.dot": write_dot(report),
        "graph.svg": write_svg(report),
        "index.html": write_html(report, logs, comparison),
        **write_day10(report, logs),
    }
    for package in report.packages.values():
        log = log_of(report, package, logs)
        if log and has_log_file(package):
            # A page that links to a file of terminal escapes shows them.
            files[log_path(package)] = clean(log)
    return {path: files[path].encode() for path in sorted(files)}
