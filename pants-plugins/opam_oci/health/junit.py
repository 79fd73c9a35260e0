"""A health report as JUnit's XML: Jenkins, GitLab and others show roots as tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from opam_oci.health.facts import is_accepted, kind_of, log_of, package_of, rank_failures, reason_of, sorted_roots
from opam_oci.health.looks import LOOKS
from opam_oci.health.results import FailureKind, HealthReport, PackageResult, RootResult, Status
from opam_oci.pages.plain_text import end_of, one_line

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


@dataclass(frozen=True)
class _Case:
    """result: "" of one that passed, else the name of the element that says what happened."""

    result: str
    seconds: float
    text: str


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
    every = [case for cases in suites.values() for case in cases]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites name={_attribute(report.target)} {_totals(every)}>\n"
        + "".join(_suite(name, cases) for name, cases in suites.items())
        + "</testsuites>\n"
    )


def _suite(name: str, cases: Sequence[_Case]) -> str:
    text = "".join(case.text for case in cases)
    return f"<testsuite name={_attribute(name)} {_totals(cases)}>\n{text}</testsuite>\n"


def _totals(cases: Sequence[_Case]) -> str:
    counts = {result: sum(case.result == result for case in cases) for result in ("failure", "error", "skipped")}
    return (
        f'tests="{len(cases)}" failures="{counts["failure"]}" errors="{counts["error"]}" skipped="{counts["skipped"]}" '
        f'time="{sum(case.seconds for case in cases):.3f}"'
    )


class _Writer:
    def __init__(self, report: HealthReport, logs: Mapping[str, str]) -> None:
        self._report = report
        self._logs = logs
        self._room = _ALL

    def root(self, root: RootResult) -> _Case:
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
        return _case(root.full_name, root.compiler or "opam", seconds, result, word, message, whole or log)

    def dependency(self, package: PackageResult) -> _Case:
        result = "error" if package.kind is FailureKind.TRANSIENT else _RESULTS[package.status]
        if package.accept_failures:
            result = "skipped"
        word = package.kind.value if package.kind else package.status.value
        message = f"{LOOKS[package.status].word}: {package.reason}"
        return _case(package.id, "dependencies", package.seconds or 0.0, result, word, message, self._log(package))

    def _log(self, package: PackageResult | None) -> str:
        log = end_of(log_of(self._report, package, self._logs), _LINES, min(_CHARACTERS, self._room))
        self._room = max(self._room - len(log), 200)
        return log


def _case(name: str, group: str, seconds: float, result: str, word: str, message: str, details: str) -> _Case:
    head = f'<testcase name={_attribute(name)} classname={_attribute(group)} time="{seconds:.3f}"'
    if not result:
        return _Case(result, seconds, f"{head}/>\n")
    kind = f" type={_attribute(word)}" if result != "skipped" else ""
    inner = f"<{result} message={_attribute(message)}{kind}/>" if not details or result == "skipped" else ""
    if not inner:
        inner = f"<{result} message={_attribute(message)}{kind}>{escape(end_of(details, 10**6, 10**6))}</{result}>"
    return _Case(result, seconds, f"{head}>{inner}</testcase>\n")


def _attribute(text: str) -> str:
    return quoteattr(one_line(text))
