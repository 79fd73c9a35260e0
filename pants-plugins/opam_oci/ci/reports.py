"""The reports of `opam-ci`: a table for a terminal, and files for programs and merge requests."""

from __future__ import annotations

from typing import Sequence

from opam_oci.ci.results import CiReport, Outcome, Step, StepResult
from opam_oci.health.looks import seconds_text
from opam_oci.health.paths import safe
from opam_oci.pages.junit_xml import Case, case, document
from opam_oci.pages.markdown_page import Page
from opam_oci.pages.markdown_text import code
from opam_oci.pages.plain_text import clean, end_of, one_line

_MARKS = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.NOT_RUN: "…", Outcome.SKIPPED: "·"}
# A failure is the project's; an error is that of what was not run.
_JUNIT = {Outcome.PASSED: "", Outcome.FAILED: "failure", Outcome.NOT_RUN: "error", Outcome.SKIPPED: "skipped"}
# Of a log: lines and characters in JUnit's file, and lines on a terminal.
_LINES, _CHARACTERS, _SHOWN = 500, 100_000, 40
_WIDTH = 300


def write_ci_reports(report: CiReport) -> dict[str, bytes]:
    """Path -> content, sorted."""
    files = {"report.txt": text_of(report) + "\n", "report.md": _markdown(report), "junit.xml": _junit(report)}
    files.update({_log_path(one): clean(one.log) for one in report.bad if one.log})
    return {path: files[path].encode(errors="replace") for path in sorted(files)}


def write_nothing(said: str) -> dict[str, bytes]:
    """The same files of a run that had nothing to check, as `said` says."""
    page = f"## opam-ci: nothing to check\n\n{said}\n"
    files = {"report.txt": f"{said}\n", "report.md": page, "junit.xml": document("opam-ci", {})}
    return {path: files[path].encode() for path in sorted(files)}


def text_of(report: CiReport) -> str:
    """What failed at length, and one line for each step."""
    told = [_told(one) for one in report.bad if one.outcome is Outcome.FAILED]
    head = ("", "step", "what", "resolve", "result")
    rows = [
        head,
        *((_MARKS[one.outcome], one.step.value, one.subject, one.place, _result(one)) for one in report.steps),
    ]
    shown = [[one_line(cell, 2 * _WIDTH) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(head) - 1)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() for row in shown]
    return "\n".join([*told, *lines, f"{report.counted()} in {seconds_text(report.seconds)}."])


def _result(one: StepResult) -> str:
    told = f"{one.outcome.value} in {seconds_text(one.seconds)}" if one.seconds is not None else one.outcome.value
    return f"{told}: {one_line(one.message, _WIDTH)}" if one.message else told


def _told(one: StepResult) -> str:
    log = end_of(one.log or one.message, _SHOWN, _CHARACTERS)
    place = f" ({one.place})" if one.place else ""
    head = one_line(f"{one.step.value} of {one.subject} failed{place}:", _WIDTH)
    return "\n".join([head, *(f"  | {line}" for line in log.splitlines()), ""])


def _log_path(one: StepResult) -> str:
    return f"logs/{safe('-'.join(part for part in (one.step.value, one.resolve, one.subject) if part))}.log"


def _junit(report: CiReport) -> str:
    suites = {}
    for step in Step:
        cases = [_case(one) for one in report.steps if one.step is step]
        suites.update({step.value: cases} if cases else {})
    return document("opam-ci", suites)


def _case(one: StepResult) -> Case:
    text = end_of(one.log, _LINES, _CHARACTERS)
    group = " ".join(part for part in (one.step.value, one.place) if part)
    message = one.message or one.outcome.value
    return case(one.subject, group, one.seconds or 0.0, _JUNIT[one.outcome], one.outcome.value, message, text, text)


def _markdown(report: CiReport) -> str:
    word = "failed" if report.bad else "passed"
    names = " ".join(code(name or ".") for name in report.directories[:20])
    head = f"## opam-ci {word}: {names}\n\n{report.counted()} in {seconds_text(report.seconds)}.\n\n"
    page = Page(head, "`report.txt` and `logs/`")
    _table(page, "Failed", report.bad)
    # What was not checked is not to drown in what passed.
    _table(page, "Skipped", [one for one in report.steps if one.outcome is Outcome.SKIPPED])
    _table(page, "Passed", [one for one in report.steps if one.outcome is Outcome.PASSED])
    for one in report.bad:
        page.log(f"{one.step.value} {one.subject}", one.log)
    return page.text()


def _table(page: Page, title: str, steps: Sequence[StepResult]) -> None:
    rows = [
        f"{_MARKS[one.outcome]} {one.step.value} | {code(one.subject)} | {code(one.place)} | {code(_result(one), _WIDTH)}"
        for one in steps
    ]
    page.table("Step | What | Resolve | Result", rows, title=title)
