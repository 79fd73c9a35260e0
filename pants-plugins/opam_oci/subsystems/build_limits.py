"""Options for what a build may take, as numbers."""

from __future__ import annotations

import re

_TIME = re.compile(r"(?:(\d{1,12})h)?(?:(\d{1,12})m)?(?:(\d{1,12})s?)?")
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?|\d{1,18})(?:([kmgt])i?)?b?")
_UNITS = {None: 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# What the tool takes.
_MOST = 1 << 62


class BadLimitError(Exception):
    """An option for what a build may take makes no sense."""


def read_seconds(option: str, text: str) -> int:
    """Of `30m`, `1h30m`, `90s` or a number; 0 of "". Raises BadLimitError."""
    match = _TIME.fullmatch("".join(text.lower().split()))
    if match is None:
        raise BadLimitError(
            f"`[opam].{option}` is {text!r:.60}; it takes `30m`, `1h30m`, `90s` or a number of seconds."
        )
    hours, minutes, seconds = (int(number or 0) for number in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def read_bytes(option: str, text: str) -> int:
    """Of `4GiB`, `512MiB` or a number; 0 of "". Units are powers of 1,024, however they are written. Raises BadLimitError."""
    given = "".join(text.lower().split())
    match = _SIZE.fullmatch(given or "0")
    if match is None:
        raise BadLimitError(
            f"`[opam].{option}` is {text!r:.60}; it takes a number and a unit, such as `4GiB` or `512MiB`, or a number of bytes."
        )
    number, unit = match.groups()
    return read_number(option, int((float if "." in number else int)(number) * _UNITS[unit]))


def read_number(option: str, value: int) -> int:
    """A number that is a limit, or 0. Raises BadLimitError."""
    if not 0 <= value < _MOST:
        raise BadLimitError(f"`[opam].{option}` is {value}; it takes a number from 0 to {_MOST - 1}.")
    return value
