"""Inputs made of good ones: what is cut off, moved, repeated, replaced by other bytes of the same and of other files."""

from __future__ import annotations

import random
import re
from typing import Callable, List, Sequence

# What readers stumble over, whatever the format.
_AWKWARD = (
    *(bytes([byte]) for byte in b"\0\n\r\t\x0b\x0c\x1c\x7f\x85\xa0\xff :;,=\"'\\/%#-+.~(){}[]<>|&!?*@09aZ"),
    *(b"\r\n", b"\n\n", b"\xc2\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xc3("),
    *(b"-1", b"0x10", b"1e999", b"1_000", b"9" * 20, b"9" * 5000, b"\xd9\xa3", b"\xc2\xb2", b"NaN", b"null", b"true"),
    *(b"../", b"//", b"/", b"'''", b'"""', b"$(", b"%{", b"}%", b"%s", b"\\x", b"\\u0000", b"\\ud800", b"\\"),
)
_NUMBERS = (b"0", b"-1", b"00", b"4294967296", b"9" * 19, b"9" * 30, b"")
_BOUNDARY = re.compile(rb"\n+|[ \t]+|(?<=[^\w\s])|(?=[^\w\s])")


class Mutator:
    """Changes inputs; `most` is their length in bytes, at most. `tokens`: words of the format."""

    def __init__(self, seeds: Sequence[bytes], tokens: Sequence[bytes], most: int = 1 << 15) -> None:
        self._seeds = seeds
        self._tokens = tokens
        self._most = most
        self._changes: List[Callable[[bytes, random.Random], bytes]] = [
            *(self._repeat, self._repeat, self._replace, self._insert, self._change_byte),
            *(self._change_number, self._delete, self._truncate, self._move, self._splice),
        ]

    def mutate(self, data: bytes, source: random.Random) -> bytes:
        """`data` after one to six changes."""
        for _ in range(source.choice((1, 1, 1, 2, 3, 6))):
            data = source.choice(self._changes)(data, source)[: self._most]
        return data

    def _repeat(self, data: bytes, source: random.Random) -> bytes:
        """A part of it many times: what is quadratic, or recursive, shows by that."""
        start, end = _range(data, source)
        part = data[start:end] or self._piece(source)
        room = max(0, self._most - len(data)) // len(part)
        times = min(source.choice((2, 3, 17, 300, 2000, self._most)), 1 + room)
        return data[:start] + part * times + data[end:]

    def _replace(self, data: bytes, source: random.Random) -> bytes:
        start, end = _range(data, source)
        return data[:start] + self._piece(source) + data[end:]

    def _insert(self, data: bytes, source: random.Random) -> bytes:
        at = _point(data, source)
        return data[:at] + self._piece(source) + data[at:]

    def _change_byte(self, data: bytes, source: random.Random) -> bytes:
        at = source.randrange(len(data) + 1)
        return data[:at] + bytes([source.randrange(256)]) + data[at + 1 :]

    def _change_number(self, data: bytes, source: random.Random) -> bytes:
        """Of text, or of binary formats: eight, four or two bytes of it."""
        digits = [match.span() for match in re.finditer(rb"[0-9]+", data)]
        if digits and source.random() < 0.7:
            start, end = source.choice(digits)
            return data[:start] + source.choice(_NUMBERS) + data[end:]
        width = source.choice((2, 4, 8))
        at = source.randrange(len(data) + 1)
        number = source.choice((0, 1, (1 << 8 * width) - 1, 1 << 8 * width - 1, source.randrange(1 << 8 * width)))
        return data[:at] + number.to_bytes(width, source.choice(("little", "big"))) + data[at + width :]

    def _delete(self, data: bytes, source: random.Random) -> bytes:
        start, end = _range(data, source)
        return data[:start] + data[end:]

    def _truncate(self, data: bytes, source: random.Random) -> bytes:
        return data[: _point(data, source)]

    def _move(self, data: bytes, source: random.Random) -> bytes:
        start, end = _range(data, source)
        rest = data[:start] + data[end:]
        at = _point(rest, source)
        return rest[:at] + data[start:end] + rest[at:]

    def _splice(self, data: bytes, source: random.Random) -> bytes:
        other = source.choice(self._seeds)
        start, end = _range(other, source)
        at = _point(data, source)
        return data[:at] + other[start:end] + data[at:]

    def _piece(self, source: random.Random) -> bytes:
        return source.choice(source.choice((_AWKWARD, self._tokens or _AWKWARD)))


def _point(data: bytes, source: random.Random) -> int:
    """A place in it: any, or one between words or lines."""
    at = source.randrange(len(data) + 1)
    return at if source.random() < 0.3 else _boundary(data, at)


def _range(data: bytes, source: random.Random) -> "tuple[int, int]":
    """A part of it: between any two places, or some words or lines."""
    start = _point(data, source)
    if source.random() < 0.3:
        end = _point(data, source)
        return min(start, end), max(start, end)
    end = start
    for _ in range(source.choice((1, 1, 2, 2, 3, 4, 6, 9))):
        end = _boundary(data, min(len(data), end + 1))
    return start, end


def _boundary(data: bytes, at: int) -> int:
    found = _BOUNDARY.search(data, at)
    return found.end() if found else len(data)
