"""Three versions of a text file as one: what two sides changed of a common version, line by line.

Both sides' changes are kept. Where both add lines at one place, the first side's come first, and lines that both add are there
once. Lines that one side changed or removed, and the other changed too, have no union.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Set, Tuple


class _Change(NamedTuple):
    """Lines start..end of the common version become `new`."""

    start: int
    end: int
    new: List[bytes]


def unite(before: bytes, first: bytes, second: bytes) -> Optional[bytes]:
    """The union, or None if there is none. The last line of each may lack its newline."""
    if first == second or second == before:
        return first
    if first == before:
        return second
    lines = _lines(before)
    changes = _unite(_changes(lines, _lines(first)), _changes(lines, _lines(second)))
    if changes is None:
        return None
    result: List[bytes] = []
    done = 0
    for change in changes:
        result += [*lines[done : change.start], *change.new]
        done = change.end
    return b"".join([*result, *lines[done:]])


def _lines(text: bytes) -> List[bytes]:
    return [line + b"\n" for line in text.split(b"\n")[: None if text and not text.endswith(b"\n") else -1]]


def _compared(one: Sequence[bytes], other: Sequence[bytes]) -> Sequence[Tuple[str, int, int, int, int]]:
    """As `SequenceMatcher.get_opcodes`."""
    from difflib import SequenceMatcher  # few builds have two versions of a text

    return SequenceMatcher(None, one, other, autojunk=False).get_opcodes()


def _changes(before: Sequence[bytes], after: Sequence[bytes]) -> List[_Change]:
    codes = _compared(before, after)
    return [_Change(start, end, list(after[one:other])) for tag, start, end, one, other in codes if tag != "equal"]


def _unite(first: List[_Change], second: List[_Change]) -> Optional[List[_Change]]:
    """All changes in order; None where two touch the same lines, and are not the same."""
    result: List[_Change] = []
    one = other = 0
    while one < len(first) and other < len(second):
        ours, theirs = first[one], second[other]
        if ours == theirs:
            result.append(ours)
        elif ours.start == ours.end == theirs.start == theirs.end:
            result.append(_Change(ours.start, ours.end, _both(ours.new, theirs.new)))
        elif ours.end <= theirs.start and (ours.start, ours.end) < (theirs.start, theirs.end):
            result.append(ours)
            one += 1
            continue
        elif theirs.end <= ours.start and (theirs.start, theirs.end) < (ours.start, ours.end):
            result.append(theirs)
            other += 1
            continue
        else:
            return None
        one, other = one + 1, other + 1
    return [*result, *first[one:], *second[other:]]


def _both(first: Sequence[bytes], second: Sequence[bytes]) -> List[bytes]:
    """Two runs of added lines as one: lines that both have in one order are there once, so that headings keep what is below."""
    result: List[bytes] = []
    known: Set[bytes] = set(first)
    for tag, start, end, one, other in _compared(first, second):
        result += first[start:end]
        if tag != "equal":
            result += [line for line in second[one:other] if line not in known or not line.strip()]
    return result
