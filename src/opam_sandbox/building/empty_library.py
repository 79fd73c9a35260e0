"""A shared library with nothing in it, for programs of 32 bits on a machine of 64.

The base's compiler makes none without a package of its own, and a linker's is not needed for so little. Source: the ELF
specification (gABI).
"""

from __future__ import annotations

import struct

_ARM = 40

_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_READ_WRITE = 6
_HASH, _STRTAB, _SYMTAB, _STRSZ, _SYMENT = 4, 5, 6, 10, 11
_HEADER, _SEGMENT, _SYMBOL = 52, 32, 16
_SEGMENTS = 3


def of_32_bits(machine: int) -> bytes:
    """The file, little-endian. machine: its number in ELF (EM_*): 3 of i386, 40 of ARM, 62 of x32."""
    # Hash table (one bucket, one symbol), symbols, strings, the dynamic section: from here on.
    start = _HEADER + _SEGMENTS * _SEGMENT
    table = struct.pack("<4I", 1, 1, 0, 0)
    symbols, strings = b"\0" * _SYMBOL, b"\0" * 4
    at_symbols = start + len(table)
    at_strings = at_symbols + len(symbols)
    at_dynamic = at_strings + len(strings)
    entries = ((_HASH, start), (_STRTAB, at_strings), (_SYMTAB, at_symbols), (_STRSZ, 1), (_SYMENT, _SYMBOL), (0, 0))
    dynamic = b"".join(struct.pack("<2I", *entry) for entry in entries)
    size = at_dynamic + len(dynamic)
    flags = 0x05000400 if machine == _ARM else 0  # EABI 5, with registers for floating point
    identity = b"\x7fELF" + bytes((1, 1, 1)) + b"\0" * 9
    header = struct.pack("<2H5I6H", 3, machine, 1, 0, _HEADER, 0, flags, _HEADER, _SEGMENT, _SEGMENTS, 0, 0, 0)
    segments = (
        (_LOAD, 0, 0, 0, size, size, _READ_WRITE, 0x1000),
        (_DYNAMIC, at_dynamic, at_dynamic, at_dynamic, len(dynamic), len(dynamic), _READ_WRITE, 4),
        # Without this one, the program's stack would be executable.
        (_STACK, 0, 0, 0, 0, 0, _READ_WRITE, 16),
    )
    return (
        identity + header + b"".join(struct.pack("<8I", *one) for one in segments) + table + symbols + strings + dynamic
    )
