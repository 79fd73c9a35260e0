"""Which versions of symbols an ELF file needs of its libraries, and which a library has: what the dynamic linker compares first.

A library of the same name may be an older one, or another's (of musl, of another machine). Of libraries without versions, as
most are but for those of compilers and of the C library, this says nothing. Source: Linux Standard Base Core, "Symbol
Versioning".
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Dict, FrozenSet, Iterator, NamedTuple, Optional, Tuple

from opam_sandbox.elf import Headers, read_headers

_DT_STRTAB, _DT_VERDEF, _DT_VERNEED = 5, 0x6FFFFFFC, 0x6FFFFFFE
_BASE, _WEAK = 1, 2
# More than any library has: a damaged chain may be a ring.
_MOST = 10_000
_LONGEST = 256


class Symbols(NamedTuple):
    """`machine`: (class, byte order, machine) as the header has them. `needed`: (library, version), without those that may lack;
    `defined`: versions."""

    machine: Tuple[int, int, int]
    needed: Tuple[Tuple[str, str], ...]
    defined: FrozenSet[str]


def read_symbols(file: BinaryIO) -> Optional[Symbols]:
    """Of an open file; None unless it is an ELF program or shared library that is whole."""
    try:
        headers = read_headers(file)
        if headers is None:
            return None
        tables = _Tables(file, headers)
        return Symbols(headers.machine, tuple(tables.needed()), frozenset(tables.defined()))
    except (OSError, OverflowError, struct.error, ValueError, LookupError):
        return None


class _Tables:
    def __init__(self, file: BinaryIO, headers: Headers) -> None:
        self._file = file
        self._order = headers.order
        self._headers = headers
        self._values: Dict[int, int] = {tag: found[0] for tag, found in headers.dynamic_values(file).items()}

    def needed(self) -> Iterator[Tuple[str, str]]:
        """(library, version)."""
        for at, (_, count, library, aux, _) in self._chain(_DT_VERNEED, "HHIII"):
            at += aux
            for _ in range(min(count, _MOST)):
                _, flags, _, name, step = self._read(at, "IHHII")
                if not flags & _WEAK:
                    yield self._text(library), self._text(name)
                at += step

    def defined(self) -> Iterator[str]:
        """Versions; the first entry of most is the library's own name, which is none."""
        for at, (_, flags, _, _, _, aux, _) in self._chain(_DT_VERDEF, "HHHHIII"):
            if not flags & _BASE:
                yield self._text(self._read(at + aux, "II")[0])

    def _chain(self, tag: int, layout: str) -> Iterator[Tuple[int, Tuple[int, ...]]]:
        if tag not in self._values:
            return
        at = self._headers.offset(self._values[tag])
        for _ in range(_MOST):
            entry = self._read(at, layout)
            yield at, entry
            if not entry[-1]:
                return
            at += entry[-1]
        raise ValueError("a chain without an end")

    def _read(self, at: int, layout: str) -> Tuple[int, ...]:
        layout = self._order + layout
        self._file.seek(at)
        return struct.unpack(layout, self._file.read(struct.calcsize(layout)))

    def _text(self, at: int) -> str:
        self._file.seek(self._headers.offset(self._values[_DT_STRTAB]) + at)
        found = self._file.read(_LONGEST)
        return found[: found.index(b"\0")].decode("utf-8", "backslashreplace")
