"""Why a build failed, by its log: what kind of failure it is, and the line that says so."""

from __future__ import annotations

import re
from dataclasses import dataclass

from opam_oci.health import log_patterns as patterns
from opam_oci.health.results import FailureKind
from opam_oci.pages.plain_text import clean, one_line

# Of a longer log its begin and its end are looked at, this many characters of each.
_MOST = 500_000
# Hints before the end of a log are of its failure; further up, of something that the build went on without.
_NEAR = 80
_LONGEST = 300
_WIDEST = 1000


@dataclass(frozen=True)
class BuildHints:
    """What is known of a build beside its log. test_commands: the commands that the opam file runs with tests only, as in
    ("dune runtest -p x",), their beginnings suffice; offline: it had no network, so that a download that fails there fails
    always, and is no fault of the network; killed: the tool or the kernel ended it for want of memory."""

    test_commands: tuple[str, ...] = ()
    offline: bool = False
    killed: bool = False


def classify(log: str, hints: BuildHints = BuildHints()) -> tuple[FailureKind, str]:
    """The kind of a failed build, and the first line that says why, clean, of at most 300 characters; "" of an empty log."""
    lines = _lines(log)
    command = _failing_command(lines)
    in_test = _is_test(command, lines, hints)
    number, kind = _reason(lines, hints, in_test)
    if hints.killed:
        kind = FailureKind.TRANSIENT
    elif in_test and kind is FailureKind.BUILD:
        kind = FailureKind.TEST
    return kind, _joined(lines, number) if number >= 0 else ""


def _lines(log: str) -> list[str]:
    """Clean lines without opam's marks, "- " of a command's output as it comes, and "# " of the end of it."""
    if len(log) > 2 * _MOST:
        log = f"{log[:_MOST]}\n{log[-_MOST:]}"
    lines = (line[:_WIDEST].rstrip() for line in clean(log).split("\n"))
    return [line[2:] if line[:2] in ("- ", "# ") else line for line in lines]


def _failing_command(lines: list[str]) -> str:
    """The command that opam ran last, "" where the log does not say."""
    for line in reversed(lines):
        found = patterns.FAILED_AT.search(line) or patterns.RAN.match(line)
        if found:
            return found.group("command").replace('"', "").strip()
    return ""


def _is_test(command: str, lines: list[str], hints: BuildHints) -> bool:
    """Whether the command that failed is one of tests, or did both and what failed is a test."""
    if any(hint and hint.replace('"', "") in command for hint in hints.test_commands):
        # `dune build @install @runtest` may be named as one that runs tests: then the build may have failed.
        if not patterns.BUILDS_TOO.search(command):
            return True
    if patterns.TEST_COMMAND.search(command):
        return True
    return bool(patterns.TESTS_TOO.search(command)) and any(patterns.TEST_FAILED.search(line) for line in lines)


def _reason(lines: list[str], hints: BuildHints, in_test: bool) -> tuple[int, FailureKind]:
    """Which line counts, -1 of an empty log, and its kind, as if there were no tests."""
    certain = hint = general = last = -1
    certain_kind = hint_kind = FailureKind.BUILD
    for number, line in enumerate(lines):
        if not line.strip() or patterns.HARMLESS.search(line):
            continue
        last = number
        if patterns.MACHINE.search(line):
            return number, FailureKind.TRANSIENT
        if certain >= 0:
            continue
        if patterns.is_certain(line):
            certain, certain_kind = number, patterns.kind_of_certain(lines, number)
        elif general < 0 and patterns.GENERAL.search(line):
            general = number
        elif patterns.NETWORK.search(line) and not in_test:
            kind = FailureKind.BUILD if hints.offline else FailureKind.TRANSIENT
            if hint < 0 or general < 0:
                hint, hint_kind = number, kind
        elif patterns.is_hint(line) and general < 0:
            # The first of those that stand together: what follows it is of the same.
            if hint < 0 or number - hint > _NEAR:
                hint, hint_kind = number, patterns.kind_of_hint(line)
    if hint >= 0 and _hint_explains(lines, hint, certain):
        return hint, hint_kind
    if certain >= 0:
        return certain, certain_kind
    if hint >= 0 and (general < 0 or general - hint <= _NEAR):
        return hint, hint_kind
    rule = _failed_rule(lines)
    return next(found for found in (rule, general, last) if found >= 0 or found == last), FailureKind.BUILD


def _failed_rule(lines: list[str]) -> int:
    """The file's line of the first of dune's rules or tests that failed without an error of a known kind, -1 if there is none."""
    for number, line in enumerate(lines):
        if patterns.OCAML_FILE.match(line):
            below = [after for after in lines[number + 1 : number + 40] if not patterns.EXCERPT.match(after)]
            if not below or not re.match(r"(?:Warning|Alert)\b", below[0]):
                return number
    return -1


def _hint_explains(lines: list[str], hint: int, certain: int) -> bool:
    """Whether the certain error only repeats what was said just before: that a program or a check failed."""
    return 0 <= hint < certain <= hint + 12 and bool(patterns.REPEATS.search(lines[certain]))


def _joined(lines: list[str], number: int) -> str:
    """The line; for OCaml and dune with the file's line before it, and what is indented below it."""
    line = lines[number].strip()
    if patterns.OCAML_ERROR.match(line):
        for before in range(number - 1, max(number - 40, -1), -1):
            if patterns.OCAML_FILE.match(lines[before]):
                line = f"{lines[before].strip()} {line}"
                break
            if not patterns.EXCERPT.match(lines[before]):
                break
        for after in lines[number + 1 : number + 4]:
            if not re.match(r"\s{2,}\S", after):
                break
            line = f"{line} {after.strip()}"
    elif patterns.OCAML_FILE.match(line):
        # A rule of dune that failed: what its program printed stands below.
        rest = (after.strip() for after in lines[number + 1 : number + 40] if not patterns.EXCERPT.match(after))
        line = f"{line} {next((after for after in rest if after and not after.startswith('(')), '')}".rstrip()
    return one_line(line, _LONGEST)
