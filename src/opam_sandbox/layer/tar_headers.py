"""Tar headers made by hand: the same entry gives the same bytes under every version of Python.

POSIX ustar headers, with a PAX extended header only where ustar cannot say it: names over 100 bytes, big numbers,
extended attributes. (`tarfile` has changed its headers' bytes between releases.) Names are bytes: newlines and
non-UTF-8 survive. Sources: POSIX.1-2001 pax; OCI image-spec, layer.md.
"""

from __future__ import annotations

import os
from typing import Dict, List, Mapping, NamedTuple

from opam_sandbox.errors import ToolError

BLOCK = 512
# What a layer can hold, in bytes: the kernel's names are no longer. Paths leave room for where a layer is unpacked.
LONGEST_COMPONENT = 255
LONGEST_PATH = 3800
# An entry's extended header: readers hold it in memory.
LARGEST_RECORDS = 8 << 20
# Names of an image's layers (OCI image-spec, layer.md): what is deleted, and what hides all that was in its directory.
WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"
REGULAR, HARDLINK, SYMLINK, CHARDEV, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"


class Entry(NamedTuple):
    """One tar entry. `name` and `linkname` are relative paths without a leading `./`; `size` in bytes; `mtime` in seconds."""

    name: bytes
    kind: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    linkname: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] = {}


def padding(size: int) -> bytes:
    """The zero bytes that fill `size` bytes of content up to a whole block."""
    return b"\0" * (-size % BLOCK)


END = b"\0" * (2 * BLOCK)


def header(entry: Entry) -> bytes:
    """All header blocks of an entry: the extended header where one is needed, then the ustar header.

    Raises ToolError for attributes that are too large for readers.
    """
    name = entry.name + b"/" if entry.kind == DIRECTORY else entry.name
    records: Dict[bytes, bytes] = {}
    if len(name) > 100 or not _plain(name):
        records[b"path"] = name
    if len(entry.linkname) > 100 or not _plain(entry.linkname):
        records[b"linkpath"] = entry.linkname
    if entry.size >= 1 << 33:
        records[b"size"] = b"%d" % entry.size
    for key, number in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if number >= 1 << 21:
            records[key] = b"%d" % number
    if not 0 <= entry.mtime < 1 << 33:
        records[b"mtime"] = b"%d" % entry.mtime
    for key, value in entry.xattrs.items():
        records[b"SCHILY.xattr." + key] = value
    blocks: List[bytes] = []
    if records:
        body = b"".join(_record(key, records[key]) for key in sorted(records))
        if len(body) > LARGEST_RECORDS:
            raise ToolError(
                f"/{os.fsdecode(entry.name)} has extended attributes of {len(body)} bytes, too many for a layer"
            )
        blocks.append(
            _ustar(b"./PaxHeaders/" + name[-80:].strip(b"/").rsplit(b"/", 1)[-1], b"x", 0o644, 0, 0, len(body), 0)
        )
        blocks.append(body + padding(len(body)))
    blocks.append(
        _ustar(
            name,
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.mtime,
            entry.linkname,
            entry.major,
            entry.minor,
        )
    )
    return b"".join(blocks)


def _plain(name: bytes) -> bool:
    # Old readers take the ustar field for ASCII; anything else goes into the extended header as well.
    return name.isascii()


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value\\n`, where LENGTH counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _octal(number: int, width: int) -> bytes:
    if not 0 <= number < 8 ** (width - 1):
        number = 0  # said by the extended header
    return b"%0*o\0" % (width - 1, number)


def _ustar(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    linkname: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    device = kind in (CHARDEV, BLOCKDEV)
    block = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            _octal(mode & 0o7777, 8),
            _octal(uid, 8),
            _octal(gid, 8),
            _octal(size, 12),
            _octal(mtime, 12),
            b" " * 8,
            kind,
            linkname[:100].ljust(100, b"\0"),
            b"ustar\00000",
            b"\0" * 64,
            _octal(major, 8) if device else b"\0" * 8,
            _octal(minor, 8) if device else b"\0" * 8,
            b"\0" * 167,
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
