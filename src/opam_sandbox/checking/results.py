"""What became of checks, as a file for programs and as lines for people."""

from __future__ import annotations

import re
from typing import Iterable, List, NamedTuple, Optional, Sequence

from opam_sandbox.errors import RequestError

FILE = "results.json"
_LONGEST_SHOWN = 300


class Result(NamedTuple):
    """A check. kind: "config", "limit", "file", "user" or "command". problems: none where all is as it should be. output: what a
    command printed."""

    kind: str
    name: str
    problems: List[str]
    seconds: float = 0.0
    output: str = ""


def report(results: Sequence[Result]) -> Iterable[str]:
    """Lines: each check, what is wrong below it, and the number of those that failed."""
    for one in results:
        yield f"{'FAIL' if one.problems else 'ok'}  {printable(f'{one.kind} {one.name}')}"
        for problem in one.problems:
            for line in problem.split("\n"):
                yield f"      {printable(line)}"
    failed = sum(bool(one.problems) for one in results)
    yield f"{failed} of {len(results)} checks failed" if failed else f"all {len(results)} checks passed"


def printable(text: str) -> str:
    """The text for a terminal: others wrote parts of it."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in text)


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def differs(what: str, found: object, wanted: object) -> List[str]:
    """The problem of a value that is not the wanted one, if it is not."""
    return [] if found == wanted else [f"{what} is {shown(found)}, but should be {shown(wanted)}"]


def pattern(text: str) -> "re.Pattern[str]":
    """A pattern of a request: `^` and `$` are those of lines. Raises RequestError."""
    try:
        return re.compile(text, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise RequestError(f"the pattern {text!r:.200} is no regular expression: {error}") from None


def unmatched(what: str, text: str, wanted: Iterable[str], unwanted: Iterable[str]) -> List[str]:
    """The problems of a text that lacks patterns, or has some that it should not have."""
    problems = [f"{what} has nothing like {one!r}" for one in wanted if not pattern(one).search(text)]
    for one in unwanted:
        found: Optional["re.Match[str]"] = pattern(one).search(text)
        if found:
            problems.append(f"{what} has {shown(found[0])}, but should have nothing like {one!r}")
    return problems
