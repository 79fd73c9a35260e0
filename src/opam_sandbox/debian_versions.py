"""The order of versions: that of Debian policy 5.6.12 without epochs and revisions, which opam follows."""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, List, Tuple

# How many digits without the zeros in front, and which.
_Number = Tuple[int, str]


def compare_versions(left: str, right: str) -> int:
    """Negative, zero or positive, as `left` is older than, equal to or newer than `right`."""
    # What a version lacks counts as no text and the number 0: before a letter, after a `~`.
    for one, other in zip_longest(_split(left), _split(right), fillvalue=((0,), _number(""))):
        if one != other:
            return -1 if one < other else 1
    return 0


def _split(version: str) -> List[Tuple[Tuple[int, ...], _Number]]:
    """Alternating (text, number) pairs; in a text `~` sorts before its end, letters before everything else."""
    return [
        (tuple(_order(char) for char in text) + (0,), _number(number))
        for text, number in re.findall(r"([^0-9]*)([0-9]*)", version)
        if text or number
    ]


def _number(digits: str) -> _Number:
    # As text: Python makes no int of thousands of digits.
    significant = digits.lstrip("0")
    return len(significant), significant


def version_key(version: str) -> Any:
    """A key that sorts as `compare_versions` compares."""
    return cmp_to_key(compare_versions)(version)


def _order(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def compare_debian(left: str, right: str) -> int:
    """As `compare_versions`, for versions of Debian packages: `[epoch:]upstream[-revision]`."""
    for one, other in zip(_parts(left), _parts(right)):
        order = compare_versions(one, other)
        if order:
            return order
    return 0


def _parts(version: str) -> Tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "0")
