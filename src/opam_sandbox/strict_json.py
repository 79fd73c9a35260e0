"""JSON that somebody else wrote: what is no plain JSON object is refused, with the file's name, whatever Python would take.

Refused are: what is no regular file or larger than `LARGEST`; text that is not UTF-8; a key that stands twice, of which readers
take one or the other; NaN and Infinity; numbers of hundreds of digits, which take Python long; nesting that is deeper than
Python's stack; halves of UTF-16 pairs, which cannot be printed, but for those that stand for bytes of text that is not UTF-8
(surrogateescape), where such text may be.
"""

from __future__ import annotations

import json
import math
import os
import stat
from typing import Any, Dict, List, Set, Tuple

from opam_sandbox.errors import ToolError

# Bytes. An index.json with 40,000 images has 16 MiB, and registries take manifests of 4 MiB.
LARGEST = 16 << 20
_MOST_DIGITS = 30


def parse_object(content: bytes, where: str, escaped_bytes: bool = False) -> Dict[str, Any]:
    """The JSON object that `content` is. Raises ToolError, which begins with `where`, for anything else.

    escaped_bytes: strings may hold bytes that are not UTF-8.
    """
    try:
        text = content.decode("utf-8")
        data = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer, parse_float=_float
        )
        if "\\ud" in text or "\\uD" in text:
            json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogateescape" if escaped_bytes else "strict")
    except UnicodeEncodeError:
        raise ToolError(f"{where}: it cannot be read: it holds half of a UTF-16 pair, which is no text") from None
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{where}: it cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ToolError(f"{where}: it should hold a JSON object")
    return data


def read_descriptor(descriptor: int, where: str, largest: int = LARGEST) -> bytes:
    """What an open file holds, `largest` bytes at most. Raises ToolError where it is no regular file or larger, OSError."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ToolError(f"{where}: it is no regular file")
    pieces: List[bytes] = []
    left = largest + 1
    while left:
        data = os.read(descriptor, min(left, 1 << 20))
        if not data:
            return b"".join(pieces)
        pieces.append(data)
        left -= len(data)
    raise ToolError(f"{where}: it cannot be read: it has {found.st_size} bytes, and at most {largest} are read")


def read_object(path: "os.PathLike[str]", largest: int = LARGEST) -> Dict[str, Any]:
    """The JSON object in a file of this program's own, of `largest` bytes at most; its strings may hold bytes that are not
    UTF-8. Raises ToolError, also for a file that is not there."""
    try:
        # Nothing is waited for: neither a FIFO's other end nor a terminal.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            content = read_descriptor(descriptor, os.fspath(path), largest)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise ToolError(f"{os.fspath(path)}: it cannot be read: {error}") from None
    return parse_object(content, os.fspath(path), escaped_bytes=True)


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: Set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r:.80} stands twice in an object")
            seen.add(key)
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text:.80} is too large")
    return number
