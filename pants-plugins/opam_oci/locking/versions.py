"""The order of versions that dpkg and opam share."""

from __future__ import annotations

import re
from functools import total_ordering
from itertools import zip_longest
from typing import Tuple

# How many digits without the zeros in front, and which: Python makes no int of thousands of digits.
_Number = Tuple[int, str]

_PIECES = re.compile(r"([^0-9]*)([0-9]*)")


@total_ordering
class Version:
    """A version of a Debian or opam package: runs of digits compare as numbers, `~` sorts before everything."""

    def __init__(self, text: str) -> None:
        self.text = text
        epoch, colon, rest = text.partition(":")
        upstream, dash, revision = (rest if colon else text).rpartition("-")
        self._parts = (
            _number(epoch) if colon and epoch.isascii() and epoch.isdigit() else _number(""),
            upstream if dash else revision,
            revision if dash else "",
        )

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.text == other.text

    def __lt__(self, other: Version) -> bool:
        if self._parts[0] != other._parts[0]:
            return self._parts[0] < other._parts[0]
        for mine, theirs in zip(self._parts[1:], other._parts[1:]):
            mine_key, their_key = _aligned(mine, theirs)
            if mine_key != their_key:
                return mine_key < their_key
        # Versions that only differ in leading zeros are equal to dpkg, but not the same text.
        return self.text < other.text


def _aligned(one: str, other: str) -> tuple[list[tuple[list[int], _Number]], list[tuple[list[int], _Number]]]:
    """Keys of two version parts that compare as dpkg does: the end of a text sorts after `~` and before all else."""
    ones: list[tuple[list[int], _Number]] = []
    others: list[tuple[list[int], _Number]] = []
    empty = ("", "")
    for a, b in zip_longest(_PIECES.findall(one), _PIECES.findall(other), fillvalue=empty):
        ones.append((_letters(a[0]), _number(a[1])))
        others.append((_letters(b[0]), _number(b[1])))
    return ones, others


def _number(digits: str) -> _Number:
    significant = digits.lstrip("0")
    return len(significant), significant


def _letters(text: str) -> list[int]:
    return [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in text] + [0]
