"""Tests as JUnit's XML: those of a package are one test case, as what ran inside only its own log says; those of an image are one
for each check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from opam_oci.pages.junit_xml import case, document
from opam_oci.pages.plain_text import end_of

# Of a log: who shows the file reads it as a whole.
_LINES, _CHARACTERS = 500, 100_000


def junit_report(name: str, package: str, seconds: float, failure: str, log: str) -> str:
    """name: the target's address. failure: the message of tests that failed, or ""."""
    text = end_of(log, _LINES, _CHARACTERS)
    result = "failure" if failure else ""
    return document(name, {name: [case(package, name, seconds, result, "", failure, text, text)]})


@dataclass(frozen=True)
class ImageCheck:
    """A check of an image. kind: as "file"; problems: none where all was as it should be. output: what a command printed."""

    kind: str
    name: str
    problems: tuple[str, ...]
    seconds: float
    output: str


def image_report(name: str, seconds: float, failure: str, checks: Sequence[ImageCheck]) -> str:
    """name: the target's address. failure: why there are no checks' results, or ""."""
    cases = [
        case(
            f"{check.kind} {check.name}",
            name,
            check.seconds,
            "failure" if check.problems else "",
            "",
            check.problems[0] if check.problems else "",
            "\n".join(check.problems),
            check.output,
        )
        for check in checks
    ]
    if failure:
        cases.append(case("image", name, seconds, "failure", "", failure, failure))
    return document(name, {name: cases})
