"""A package's tests as JUnit's XML, one test case: what ran inside only its own log says."""

from __future__ import annotations

from opam_oci.pages.junit_xml import case, document
from opam_oci.pages.plain_text import end_of

# Of a log: who shows the file reads it as a whole.
_LINES, _CHARACTERS = 500, 100_000


def junit_report(name: str, package: str, seconds: float, failure: str, log: str) -> str:
    """name: the target's address. failure: the message of tests that failed, or ""."""
    text = end_of(log, _LINES, _CHARACTERS)
    result = "failure" if failure else ""
    return document(name, {name: [case(package, name, seconds, result, "", failure, text, text)]})
