"""A health report as JSON: all in one file, and in day10's way, a file for each root."""

from __future__ import annotations

import json
from typing import Any, Mapping

from opam_oci.health.dot import solution
from opam_oci.health.facts import (
    causes,
    count_statuses,
    is_accepted,
    kind_of,
    log_of,
    package_of,
    reason_of,
    sorted_roots,
)
from opam_oci.health.paths import day10_path, log_path
from opam_oci.health.results import HealthReport, PackageResult, RootResult, Status
from opam_oci.pages.plain_text import end_of

# Raised when a field is added, changes its meaning or goes.
SCHEMA = 1
_LOG_LINES, _LOG_CHARACTERS = 100, 12_000

_DAY10 = {
    Status.SUCCESS: "success",
    Status.FAILURE: "failure",
    Status.TIMED_OUT: "failure",
    Status.NO_SOURCE: "failure",
    Status.NO_DEPEXT: "failure",
    Status.DEPENDENCY_FAILED: "dependency_failed",
    Status.NO_SOLUTION: "no_solution",
    # Solved, and nothing more is known.
    Status.CANCELLED: "solution",
    Status.NOT_BUILT: "solution",
}


def write_results(report: HealthReport, logs: Mapping[str, str]) -> str:
    """The file that `read_results` reads: see docs/health.md. Roots and packages are sorted; logs have their ends only."""
    data = {
        "schema": SCHEMA,
        "target": report.target,
        "base": report.base,
        "repositories": list(report.repositories),
        "sha": repositories_sha(report),
        "seconds": report.seconds,
        "counts": {status.value: count for status, count in count_statuses(report).items()},
        "roots": [_root(report, root, logs) for root in sorted_roots(report)],
        "packages": {id: _package(report.packages[id], logs) for id in sorted(report.packages)},
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def write_day10(report: HealthReport, logs: Mapping[str, str]) -> dict[str, str]:
    """Path -> JSON, as day10's `health-check --json` writes it for each root, with its five statuses and the whole log; of a
    root whose dependency failed, the end of that one's."""
    files = {}
    for root in sorted_roots(report):
        log = log_of(report, _failing(report, root), logs)
        if causes(report, root):
            # One long log would be in the files of all roots that its failure stopped.
            log = end_of(log, _LOG_LINES, _LOG_CHARACTERS)
        data = _day10_fields(report, root, log)
        data["status"] = _DAY10[root.status]
        data["health_status"] = root.status.value
        files[day10_path(root)] = json.dumps(data, allow_nan=False) + "\n"
    return files


def repositories_sha(report: HealthReport) -> str:
    """The repositories' fingerprints as one word: day10's is the commit of its repository."""
    return ",".join(line.rsplit(" ", 1)[-1].rsplit(":", 1)[-1] for line in report.repositories)


def _day10_fields(report: HealthReport, root: RootResult, log: str) -> dict[str, Any]:
    """Those that day10 has too. It leaves out what there is not."""
    package = _failing(report, root)
    data: dict[str, Any] = {"name": root.full_name, "status": root.status.value, "sha": repositories_sha(report)}
    if package is not None and package.layer:
        data["layer"] = package.layer
    if log:
        data["log"] = log
    data["solution"] = solution(report, root)
    return data


def _failing(report: HealthReport, root: RootResult) -> PackageResult | None:
    """Whose log says how it went with a root: its own, or that of the first failure that stopped it."""
    stopped_by = causes(report, root)
    return stopped_by[0] if stopped_by else package_of(report, root)


def _root(report: HealthReport, root: RootResult, logs: Mapping[str, str]) -> dict[str, Any]:
    log = "" if root.status is Status.SUCCESS else log_of(report, _failing(report, root), logs)
    kind = kind_of(report, root)
    return {
        **_day10_fields(report, root, end_of(log, _LOG_LINES, _LOG_CHARACTERS)),
        "package_name": root.name,
        "version": root.version,
        "compiler": root.compiler,
        "package": root.package,
        "later": list(root.later),
        "reason": root.reason,
        "explanation": reason_of(report, root),
        "kind": kind.value if kind else None,
        "stopped_by": [cause.id for cause in causes(report, root)],
        "accepted": is_accepted(report, root),
    }


def _package(package: PackageResult, logs: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.version,
        "status": package.status.value,
        "kind": package.kind.value if package.kind else None,
        "reason": package.reason,
        "log_file": log_path(package) if logs.get(package.id, package.log) and has_log_file(package) else "",
        "layer": package.layer,
        "size": package.size,
        "seconds": package.seconds,
        "started": package.started,
        "cached": package.cached,
        "depends": list(package.depends),
        "blocked_by": list(package.blocked_by),
        "accept_failures": package.accept_failures,
    }


def has_log_file(package: PackageResult) -> bool:
    """Whether reports keep the log in a file: of what did not succeed."""
    return package.status is not Status.SUCCESS
