"""Tars by hand: headers that nobody's program would write, with the right checksum."""

from __future__ import annotations

from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.tar_headers import Entry


def raw(
    name: bytes = b"f", kind: bytes = b"0", size: bytes = b"00000000000\0", body: bytes = b"", **at: bytes
) -> bytes:
    """A header with these bytes in its fields and the right checksum, then the body, filled up. at: `at345=...`."""
    block = bytearray(tar_headers.header(Entry(b"x", tar_headers.REGULAR)))
    block[:100] = name[:100].ljust(100, b"\0")
    block[156:157] = kind
    block[124:136] = size
    for key, value in at.items():
        start = int(key[2:])
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + body + tar_headers.padding(len(body))


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def base256(number: int, width: int = 12) -> bytes:
    sign = b"\x80" if number >= 0 else b"\xff"
    return sign + (number % (1 << 8 * (width - 1))).to_bytes(width - 1, "big")


def record(key: bytes, value: bytes) -> bytes:
    return tar_headers._record(key, value)


def extended(body: bytes, kind: bytes = b"x") -> bytes:
    return raw(b"pax", kind, octal(len(body)), body)


def pax(key: bytes, value: bytes) -> bytes:
    """A file `f` with one record."""
    return extended(record(key, value)) + raw()
