"""Where zstd frames begin and end, and how much is in them. Source: RFC 8878, sections 3.1.1 and 3.1.2."""

from __future__ import annotations

from typing import List, NamedTuple, Tuple

_MAGIC = b"\x28\xb5\x2f\xfd"
_RLE, _RESERVED = 1, 3
# Bytes of a dictionary's id, and of the content's size, by their flags.
_DICTIONARY, _SIZE = (0, 1, 2, 4), (0, 2, 4, 8)


class Frame(NamedTuple):
    """`data[start:end]` is a frame; `content`: the size in bytes that its header says of what is in it, -1 if none."""

    start: int
    end: int
    content: int


def read_frames(data: bytes) -> List[Frame]:
    """The frames that `data` consists of, [] if it consists of anything else. What is in their blocks is not looked at."""
    frames: List[Frame] = []
    at = 0
    while at < len(data):
        blocks, content, checksum = _header(data, at)
        end = _behind_blocks(data, blocks) + checksum if blocks else 0
        if not at < end <= len(data):
            return []
        frames.append(Frame(at, end, content))
        at = end
    return frames


def _header(data: bytes, at: int) -> Tuple[int, int, int]:
    """Where the blocks begin (0: this is no frame), the content's size (-1: unknown), the size of the checksum."""
    if data[at : at + 4] != _MAGIC or at + 5 > len(data):
        return 0, -1, 0
    descriptor = data[at + 4]
    single = descriptor >> 5 & 1
    if descriptor & 0b1000:  # reserved
        return 0, -1, 0
    size = _SIZE[descriptor >> 6] or single
    where = at + 5 + (1 - single) + _DICTIONARY[descriptor & 3]
    field = data[where : where + size]
    if len(field) < size:
        return 0, -1, 0
    content = int.from_bytes(field, "little") + (256 if size == 2 else 0) if size else -1
    return where + size, content, 4 * (descriptor >> 2 & 1)


def _behind_blocks(data: bytes, at: int) -> int:
    """Where the last block ends, 0 for none."""
    while True:
        header = int.from_bytes(data[at : at + 3], "little")
        kind, size = header >> 1 & 3, header >> 3
        if at + 3 > len(data) or kind == _RESERVED:
            return 0
        at += 3 + (1 if kind == _RLE else size)
        if header & 1:
            return at
