"""JUnit's XML, as Jenkins, GitLab and others read it: the elements, whatever their cases are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from opam_oci.pages.plain_text import end_of, one_line


@dataclass(frozen=True)
class Case:
    """result: "" of one that passed, else the name of the element that says what happened: failure, error or skipped."""

    result: str
    seconds: float
    text: str


def case(
    name: str,
    group: str,
    seconds: float,
    result: str = "",
    word: str = "",
    message: str = "",
    details: str = "",
    output: str = "",
) -> Case:
    """word, message, details: what kind of failure it is, in one line, and at length. output: what a case that passed printed."""
    head = f'<testcase name={_attribute(name)} classname={_attribute(group)} time="{seconds:.3f}"'
    if not result:
        inner = f"<system-out>{_text(output)}</system-out>" if output else ""
        return Case(result, seconds, f"{head}>{inner}</testcase>\n" if inner else f"{head}/>\n")
    kind = f" type={_attribute(word)}" if word and result != "skipped" else ""
    begin = f"<{result} message={_attribute(message)}{kind}"
    inner = f"{begin}/>" if not details or result == "skipped" else f"{begin}>{_text(details)}</{result}>"
    return Case(result, seconds, f"{head}>{inner}</testcase>\n")


def document(name: str, suites: Mapping[str, Sequence[Case]]) -> str:
    """The whole file. suites: cases by the suite's name."""
    every = [one for cases in suites.values() for one in cases]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites name={_attribute(name)} {_totals(every)}>\n"
        + "".join(_suite(suite, cases) for suite, cases in suites.items())
        + "</testsuites>\n"
    )


def _suite(name: str, cases: Sequence[Case]) -> str:
    text = "".join(one.text for one in cases)
    return f"<testsuite name={_attribute(name)} {_totals(cases)}>\n{text}</testsuite>\n"


def _totals(cases: Sequence[Case]) -> str:
    counts = {result: sum(one.result == result for one in cases) for result in ("failure", "error", "skipped")}
    return (
        f'tests="{len(cases)}" failures="{counts["failure"]}" errors="{counts["error"]}" skipped="{counts["skipped"]}" '
        f'time="{sum(one.seconds for one in cases):.3f}"'
    )


def _text(text: str) -> str:
    return escape(end_of(text, 10**6, 10**6))


def _attribute(text: str) -> str:
    return quoteattr(one_line(text))
