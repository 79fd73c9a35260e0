"""The two texts at the end of a chunked layer: what is in it and where (the table of contents), and what tar has around it.

The table is JSON: an object for each of the tar's entries, with the entry's attributes, its content's sha256 and the frames that
hold it; behind that of a large file, an object for each further chunk of it. A client that knows the table makes a layer out
of it and never sees the tar. So that the layer's diff_id can be told all the same, tar-split's lines have all bytes of the tar
but the files' content, which they name. Clients compare the two.

Both are read by Go's JSON, which knows text in UTF-8 only, and by its tar, which reads odd headers in its own way. Of a layer
that has anything else, no table is written: its clients take it whole.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set

from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.merge_tars import entry_of
from opam_sandbox.layer.read_tar import Member

_TYPES = {
    tar_headers.REGULAR: "reg",
    tar_headers.HARDLINK: "hardlink",
    tar_headers.SYMLINK: "symlink",
    tar_headers.CHARDEV: "char",
    tar_headers.BLOCKDEV: "block",
    tar_headers.DIRECTORY: "dir",
    tar_headers.FIFO: "fifo",
}
# What clients read of a table, in bytes: 50 MiB before containers/storage 1.55.
LARGEST_TABLE = 50 << 20
# Of these, `time.Parse` reads the years.
_EARLIEST, _LATEST = -62135596800, 253402300799
# tar-split's kinds of lines.
_FILE, _SEGMENT = 1, 2


class NotListed(Exception):
    """The layer has something that a table of contents cannot say."""


class Chunk(NamedTuple):
    """A part of a file: where it begins in it, its size in bytes, its first frame, its sha256 (hex), whether it is all zeros."""

    offset: int
    size: int
    frame: int
    sha256: str
    zeros: bool


class Content(NamedTuple):
    """A file's content: its sha256 (hex), its CRC-64, its first frame and the one behind its last, its chunks in order."""

    sha256: str
    crc: int
    frame: int
    behind: int
    chunks: Sequence[Chunk]


class Contents:
    """Takes the entries of a tar, in order."""

    def __init__(self) -> None:
        # The numbers of frames stand for their offsets, until these are known.
        self._entries: List[Dict[str, Any]] = []
        self._names: Set[bytes] = set()
        self._size = 0

    def check(self, member: Member, headers: bytes) -> None:
        """Raises NotListed for an entry, with its header blocks, that cannot be said."""
        if headers != tar_headers.header(entry_of(member, member.xattrs)):
            raise NotListed(f"a header of another kind: {member.shown}")
        if member.name in self._names:
            raise NotListed(f"two entries of one name: {member.shown}")
        self._names.add(member.name)
        if not _EARLIEST <= member.mtime <= _LATEST:
            raise NotListed(f"a time that is no date: {member.shown}")
        _text(member.name, member.linkname, *member.xattrs)

    def add(self, member: Member, content: Optional[Content]) -> None:
        """Enter what has been checked. content None: the entry has none. Raises NotListed for a table that is too large."""
        fields: Dict[str, Any] = {"type": _TYPES[member.kind], "name": tar_name(member)}
        for key, value in (
            ("linkName", member.linkname.decode()),
            ("mode", member.mode),
            ("size", member.size),
            ("uid", member.uid),
            ("gid", member.gid),
            ("modtime", _time(int(member.mtime)) if member.mtime else ""),
            ("devMajor", member.major),
            ("devMinor", member.minor),
            ("xattrs", {key.decode(): _base64(value) for key, value in sorted(member.xattrs.items())}),
        ):
            if value:
                fields[key] = value
        if content is None:
            self._append(fields)
            return
        fields.update(digest=f"sha256:{content.sha256}", offset=content.frame, endOffset=content.behind)
        chunks = content.chunks if len(content.chunks) > 1 else ()
        if chunks:
            fields.update(_chunk(chunks[0]))
        self._append(fields)
        for chunk in chunks[1:]:
            further = {"type": "chunk", "name": fields["name"], "offset": chunk.frame, "chunkOffset": chunk.offset}
            self._append({**further, **_chunk(chunk)})

    def table(self, starts: Sequence[int], tar_split: str) -> bytes:
        """The JSON. `starts`: where each frame begins; `tar_split`: the digest of tar-split's blob. Raises NotListed."""
        for fields in self._entries:
            for key in ("offset", "endOffset"):
                if key in fields:
                    fields[key] = starts[fields[key]]
        text = _json({"version": 1, "entries": self._entries, "tarSplitDigest": tar_split})
        if len(text) > LARGEST_TABLE:
            raise NotListed("more than clients read of a table")
        return text

    def _append(self, fields: Dict[str, Any]) -> None:
        # Its size is known at the end, but what waits for it is to have an end.
        self._size += 50 + len(fields["name"]) + sum(map(len, fields.get("xattrs", {}).values()))
        if self._size > LARGEST_TABLE:
            raise NotListed("more than clients read of a table")
        self._entries.append(fields)


class TarSplit:
    """tar-split's lines: each a JSON object with its number."""

    def __init__(self) -> None:
        self._position = 0

    def segment(self, data: bytes) -> bytes:
        """Bytes of the tar that are no file's content: with each header, the padding behind the file before it."""
        return self._line({"type": _SEGMENT, "payload": _base64(data)})

    def file(self, member: Member, content: Optional[Content]) -> bytes:
        """An entry, with or without content."""
        fields: Dict[str, Any] = {"type": _FILE, "name": tar_name(member)}
        if content is None:
            return self._line({**fields, "payload": None})
        return self._line({**fields, "size": member.size, "payload": _base64(content.crc.to_bytes(8, "big"))})

    def _line(self, fields: Dict[str, Any]) -> bytes:
        line = _json({**fields, "position": self._position}) + b"\n"
        self._position += 1
        return line


def tar_name(member: Member) -> str:
    """The name as the header has it."""
    return member.name.decode() + ("/" if member.kind == tar_headers.DIRECTORY else "")


def _text(*names: bytes) -> None:
    for name in names:
        try:
            name.decode()
        except UnicodeDecodeError:
            raise NotListed(f"a name that is not UTF-8: {name!r:.80}") from None


def _chunk(chunk: Chunk) -> Dict[str, Any]:
    fields: Dict[str, Any] = {"chunkSize": chunk.size, "chunkDigest": f"sha256:{chunk.sha256}"}
    return {**fields, "chunkType": "zeros"} if chunk.zeros else fields


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def cut(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`, but for the last."""
    waiting: List[bytes] = []
    filled = 0
    for piece in pieces:
        rest = piece
        while filled + len(rest) >= size:
            waiting.append(rest[: size - filled])
            rest = rest[size - filled :]
            yield b"".join(waiting)
            waiting, filled = [], 0
        if rest:
            waiting.append(rest)
            filled += len(rest)
    if filled:
        yield b"".join(waiting)
