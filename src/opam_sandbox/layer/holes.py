"""Reads files with holes without reading the holes, which takes a disk's time for nothing."""

from __future__ import annotations

import errno
import os
from typing import Iterator, Tuple

# What holes are read as, a piece at a time: those who write or pack it know it by comparing with this.
ZEROS = bytes(1 << 20)


def content(file: int, size: int) -> Iterator[bytes]:
    """The first `size` bytes of an open file, in pieces of at most 1 MiB. Raises OSError, with EIO where it became shorter."""
    for hole, data in _pieces(file, size):
        yield from _zeros(hole)
        while data:
            piece = os.read(file, min(data, len(ZEROS)))
            if not piece:
                raise OSError(errno.EIO, "it became shorter while it was read")
            yield piece
            data -= len(piece)


def _pieces(file: int, size: int) -> Iterator[Tuple[int, int]]:
    """The file as (length of a hole, length of the data behind it); at each, the file is at the data."""
    at = 0
    while at < size:
        try:
            data = min(os.lseek(file, at, os.SEEK_DATA), size)
            end = min(os.lseek(file, data, os.SEEK_HOLE), size) if data < size else size
        except OSError as error:
            # ENXIO: nothing but a hole is left, or nothing at all; others: the file system knows no holes.
            data, end = (size, size) if error.errno == errno.ENXIO and os.fstat(file).st_size >= size else (at, size)
        os.lseek(file, data, os.SEEK_SET)
        yield data - at, end - data
        at = end


def _zeros(left: int) -> Iterator[bytes]:
    while left:
        zeros = ZEROS if left >= len(ZEROS) else bytes(left)
        yield zeros
        left -= len(zeros)
