"""Reads of an ELF file what the dynamic linker reads: the libraries it needs, where it looks for them, its interpreter.

Source: ELF-64/32 object file format, chapter 5; ld.so(8).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO, Dict, List, NamedTuple, Optional, Tuple

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29

# Bytes that real files do not come near: a damaged one may name all of itself, many times over.
_LONGEST_NAME = 4096
_LONGEST_PATHS = 1 << 16
_LARGEST_DYNAMIC = 1 << 16


@dataclass(frozen=True)
class Elf:
    """`needed`: names of libraries, `paths`: RUNPATH or RPATH with `$ORIGIN` as it is, `interpreter`: "" for none.

    `loaded`: (offset, length) of the parts of the file that become memory of the process. `first`: the paths are a RPATH, which
    counts before LD_LIBRARY_PATH, as a RUNPATH does not."""

    needed: Tuple[str, ...]
    paths: Tuple[str, ...]
    interpreter: str
    loaded: Tuple[Tuple[int, int], ...] = ()
    first: bool = False


def read_elf(file: BinaryIO) -> Optional[Elf]:
    """What an open file needs; None unless it is an ELF program or shared library that is whole."""
    try:
        return _read(file)
    except (OSError, OverflowError, struct.error, ValueError, LookupError):
        return None


class Headers(NamedTuple):
    """`order`: as `struct` has it; `machine`: (class, byte order, machine); `loads`: (address, offset, length) of what is loaded;
    `dynamic`: (offset, length) of the dynamic section, None where there is none; `interpreter`: "" for none."""

    order: str
    machine: Tuple[int, int, int]
    loads: Tuple[Tuple[int, int, int], ...]
    dynamic: Optional[Tuple[int, int]]
    interpreter: str

    def offset(self, address: int) -> int:
        """Where in the file an address is. Raises ValueError."""
        for start, at, length in self.loads:
            if start <= address < start + length:
                return at + address - start
        raise ValueError("an address outside of the file")

    def dynamic_values(self, file: BinaryIO) -> Dict[int, List[int]]:
        """The dynamic section's values by their tags. Raises ValueError."""
        values: Dict[int, List[int]] = {}
        if self.dynamic is not None:
            entry = struct.Struct(self.order + ("qQ" if self.machine[0] == 2 else "iI"))
            data = _bytes(file, *self.dynamic, _LARGEST_DYNAMIC)
            for tag, value in entry.iter_unpack(data[: len(data) - len(data) % entry.size]):
                if tag == 0:
                    break
                values.setdefault(tag, []).append(value)
        return values


def read_headers(file: BinaryIO) -> Optional[Headers]:
    """None unless an open file is an ELF program or shared library. Raises ValueError, LookupError and what `struct` and files do
    where it is damaged."""
    ident = file.read(16)
    if ident[:4] != b"\x7fELF":
        return None
    wide = ident[4] == 2
    order = "<" if ident[5] == 1 else ">"
    header = struct.unpack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), file.read(48 if wide else 36))
    kind, machine, offset, size, count = header[0], header[1], header[4], header[8], header[9]
    if kind not in (2, 3):
        return None
    loads: List[Tuple[int, int, int]] = []
    dynamic: Optional[Tuple[int, int]] = None
    interpreter = ""
    for number in range(count):
        file.seek(offset + number * size)
        if wide:
            kind, _, at, address, _, length, _, _ = struct.unpack(order + "IIQQQQQQ", file.read(56))
        else:
            kind, at, address, _, length, _, _, _ = struct.unpack(order + "IIIIIIII", file.read(32))
        if kind == _PT_LOAD:
            loads.append((address, at, length))
        elif kind == _PT_DYNAMIC:
            dynamic = (at, length)
        elif kind == _PT_INTERP:
            interpreter = os.fsdecode(_bytes(file, at, length, _LONGEST_NAME).partition(b"\0")[0])
    return Headers(order, (ident[4], ident[5], machine), tuple(loads), dynamic, interpreter)


def _read(file: BinaryIO) -> Optional[Elf]:
    headers = read_headers(file)
    if headers is None:
        return None
    end = file.seek(0, os.SEEK_END)
    # Of a file that names parts beyond its end (debuggers' files do) only what is there.
    loaded = tuple((at, min(length, end - at)) for _, at, length in headers.loads if at < end)
    values = headers.dynamic_values(file)
    if _DT_STRTAB not in values:
        return Elf((), (), headers.interpreter, loaded)
    start, size = headers.offset(values[_DT_STRTAB][0]), values[_DT_STRSZ][0]
    if start + size > file.seek(0, os.SEEK_END):
        raise ValueError("the file is shorter than it says")

    def text(at: int, most: int) -> str:
        found = _bytes(file, start + at, max(0, min(size - at, most)), most)
        return os.fsdecode(found[: found.index(b"\0")])

    paths = [text(at, _LONGEST_PATHS) for at in dict.fromkeys(values.get(_DT_RUNPATH) or values.get(_DT_RPATH) or [])]
    return Elf(
        tuple(text(at, _LONGEST_NAME) for at in dict.fromkeys(values.get(_DT_NEEDED, []))),
        tuple(part for path in paths for part in path.split(":") if part),
        headers.interpreter,
        loaded,
        _DT_RUNPATH not in values,
    )


def _bytes(file: BinaryIO, at: int, length: int, most: int) -> bytes:
    # Before anything is read: a damaged length may be more than there is memory for.
    if length > most or at + length > file.seek(0, os.SEEK_END):
        raise ValueError("the file is shorter than it says")
    file.seek(at)
    return file.read(length)
