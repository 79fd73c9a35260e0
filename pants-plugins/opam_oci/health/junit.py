"""A health report as JUnit's XML: Jenkins, GitLab and others show roots as tests."""

from __future__ import annotations

from typing import Mapping

from opam_oci.health.facts import is_accepted, kind_of, log_of, package_of, rank_failures, reason_of, sorted_roots
from opam_oci.health.looks import LOOKS
from opam_oci.health.results import FailureKind, HealthReport, PackageResult, RootResult, Status
from opam_oci.pages.junit_xml import Case, case, document
from opam_oci.pages.plain_text import end_of

# Of a log, and of all of them: who shows the file reads it as a whole.
_LINES, _CHARACTERS, _ALL = 200, 20_000, 20_000_000

# A failure is the package's; an error is of what is around it. Skipped is what another test case of the file stands for.
_RESULTS = {
    Status.SUCCESS: "",
    Status.FAILURE: "failure",
    Status.TIMED_OUT: "failure",
    Status.NO_SOLUTION: "failure",
    Status.NO_DEPEXT: "failure",
    Status.NO_SOURCE: "error",
    Status.CANCELLED: "error",
    Status.DEPENDENCY_FAILED: "skipped",
    Status.NOT_BUILT: "skipped",
}


def write_junit(report: HealthReport, logs: Mapping[str, str]) -> str:
    """One test suite for each compiler, with the roots as test cases, and one with failed packages that are no roots."""
    by_compiler: dict[str, list[RootResult]] = {}
    for root in sorted_roots(report):
        by_compiler.setdefault(root.compiler, []).append(root)
    writer = _Writer(report, logs)
    suites = {
        f"{report.target} {compiler}".rstrip(): [writer.root(root) for root in roots]
        for compiler, roots in sorted(by_compiler.items())
    }
    # Without these a file could say that all is well but for what was skipped.
    own = {root.package for root in report.roots}
    others = [package for blocker in rank_failures(report) for package in blocker.packages if package.id not in own]
    if others:
        suites[f"{report.target} dependencies"] = [writer.dependency(package) for package in others]
    return document(report.target, suites)


class _Writer:
    def __init__(self, report: HealthReport, logs: Mapping[str, str]) -> None:
        self._report = report
        self._logs = logs
        self._room = _ALL

    def root(self, root: RootResult) -> Case:
        package = package_of(self._report, root)
        kind = kind_of(self._report, root)
        result = "error" if kind is FailureKind.TRANSIENT else _RESULTS[root.status]
        reason = reason_of(self._report, root)
        if is_accepted(self._report, root):
            result, reason = "skipped", f"its opam file accepts failures here. {reason}"
        word = kind.value if kind else root.status.value
        log = "" if root.status in (Status.SUCCESS, Status.DEPENDENCY_FAILED) else self._log(package)
        whole = root.reason if root.status is Status.NO_SOLUTION else ""
        message = f"{LOOKS[root.status].word}: {reason}"
        seconds = (package.seconds if package else None) or 0.0
        return case(root.full_name, root.compiler or "opam", seconds, result, word, message, whole or log)

    def dependency(self, package: PackageResult) -> Case:
        result = "error" if package.kind is FailureKind.TRANSIENT else _RESULTS[package.status]
        if package.accept_failures:
            result = "skipped"
        word = package.kind.value if package.kind else package.status.value
        message = f"{LOOKS[package.status].word}: {package.reason}"
        return case(package.id, "dependencies", package.seconds or 0.0, result, word, message, self._log(package))

    def _log(self, package: PackageResult | None) -> str:
        log = end_of(log_of(self._report, package, self._logs), _LINES, min(_CHARACTERS, self._room))
        self._room = max(self._room - len(log), 200)
        return log
