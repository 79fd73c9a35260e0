"""A package's tests as JUnit's XML, one test case: what ran inside only its own log says."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from opam_oci.pages.plain_text import end_of, one_line

# Of a log: who shows the file reads it as a whole.
_LINES, _CHARACTERS = 500, 100_000


def junit_report(name: str, package: str, seconds: float, failure: str, log: str) -> str:
    """name: the target's address. failure: the message of tests that failed, or ""."""
    counts = f'tests="1" failures="{int(bool(failure))}" errors="0" skipped="0" time="{seconds:.3f}"'
    head = f'<testcase name={_attribute(package)} classname={_attribute(name)} time="{seconds:.3f}">'
    text = escape(end_of(log, _LINES, _CHARACTERS))
    told = f"<failure message={_attribute(failure)}>{text}</failure>" if failure else f"<system-out>{text}</system-out>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites {counts}>\n<testsuite name={_attribute(name)} {counts}>\n"
        f"{head}{told}</testcase>\n</testsuite>\n</testsuites>\n"
    )


def _attribute(text: str) -> str:
    return quoteattr(one_line(text))
