"""Reads of an OCaml bytecode program what its runtime reads before it runs: the runtime's path and the libraries with primitives.

Source: OCaml's runtime/caml/exec.h: sections, then a table of their names and lengths, then how many, and a magic number.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO, Dict, Optional, Tuple

_MAGIC = b"Caml1999X"
_TRAILER = struct.Struct(">I12s")
_ENTRY = struct.Struct(">4sI")
_MOST_SECTIONS = 64
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Bytecode:
    """`runtime`: the program that runs it ("" where the first line says it, or the file is itself one), `libraries`: names
    without `.so`, `paths`: where they are looked up first."""

    runtime: str
    libraries: Tuple[str, ...]
    paths: Tuple[str, ...]


def read_bytecode(file: BinaryIO) -> Optional[Bytecode]:
    """What an open file needs; None unless it is a bytecode program that is whole."""
    end = file.seek(0, os.SEEK_END)
    if end < _TRAILER.size:
        return None
    file.seek(end - _TRAILER.size)
    count, magic = _TRAILER.unpack(file.read(_TRAILER.size))
    table = end - _TRAILER.size - count * _ENTRY.size
    if not magic.startswith(_MAGIC) or count > _MOST_SECTIONS or table < 0:
        return None
    file.seek(table)
    entries = list(_ENTRY.iter_unpack(file.read(count * _ENTRY.size)))
    at = table - sum(length for _, length in entries)
    if at < 0:
        return None
    found: Dict[bytes, bytes] = {}
    for name, length in entries:
        if name in (b"RNTM", b"DLLS", b"DLPT") and length <= _LONGEST:
            file.seek(at)
            found[name] = file.read(length)
        at += length
    runtime = found.get(b"RNTM", b"").partition(b"\n")[0].strip(b"\0")
    return Bytecode(os.fsdecode(runtime), _texts(found.get(b"DLLS", b"")), _texts(found.get(b"DLPT", b"")))


def _texts(content: bytes) -> Tuple[str, ...]:
    return tuple(os.fsdecode(part) for part in content.split(b"\0") if part)
