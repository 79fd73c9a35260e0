"""Reads the tars of layers: what any reader of layers takes in one way, and nothing else.

Python's tarfile takes a damaged header for the archive's end, negative sizes, sparse files whose content is not what is in the
archive, and attributes as large as memory. Here all of these are errors, and so is whatever stands behind the end: of two
readers, one would show what the other does not. What an entry means for a layer (its name, what it hides) is settled here, so
that `unpack` and `merge_tars` agree. Names are bytes. Sources: POSIX.1-2001 pax; GNU tar's manual, "Basic Tar Format"; OCI
image-spec, layer.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, Iterator, Optional, Protocol, Set, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.tar_headers import BLOCK, LARGEST_RECORDS, LONGEST_COMPONENT, LONGEST_PATH, OPAQUE, WHITEOUT

# What names and attributes of all entries may take, in bytes: they are held in memory.
_MOST_DESCRIBED = 512 << 20
_PER_ENTRY = 100
_LONGEST_TARGET = 4095
_LONGEST_GNU_NAME = 64 << 10
_LARGEST_SIZE = 1 << 62
# What follows means "leave it as it is" to chown(2).
_LARGEST_ID = (1 << 32) - 2
_LARGEST_MAJOR, _LARGEST_MINOR = (1 << 12) - 1, (1 << 20) - 1

_KINDS = {
    b"\0": tar_headers.REGULAR,
    b"7": tar_headers.REGULAR,  # contiguous, of which nobody knows anything any more
    **{kind: kind for kind in (b"0", b"1", b"2", b"3", b"4", b"5", b"6")},
}
_XATTR = b"SCHILY.xattr."
# What these change for all entries that follow, readers do not agree on.
_OF_ENTRIES = (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"SCHILY.", b"GNU.sparse.")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_ATTRIBUTE = re.compile(rb"(user|trusted|security|system)\.[^=]{1,240}", re.DOTALL)
_TIME = re.compile(rb"-?[0-9]{1,20}(\.[0-9]{0,30})?")


class Readable(Protocol):
    """What an archive is read from: a file, or something that reads through to one."""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, none at the end."""
        ...


@dataclass
class Member:
    """An entry. `name` is relative, `b""` for the root; `kind` as in `tar_headers`; `mtime` in seconds; `offset`: where its
    content begins. `linkname`: a symlink's target as it is, a hard link's as a relative name.

    hides: the name in this directory of which the entry hides what lies below (a whiteout), `b""`: all names; None: no whiteout.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: Union[int, float]
    linkname: bytes
    major: int
    minor: int
    offset: int = 0
    xattrs: Dict[bytes, bytes] = field(default_factory=dict)
    hides: Optional[bytes] = None

    @property
    def shown(self) -> str:
        """The name for messages."""
        return repr(self.name.decode("utf-8", "backslashreplace"))


class TarReader:
    """The entries of a plain tar, in order; `title` names the archive in messages. To iterate raises ToolError."""

    def __init__(self, stream: Readable, title: str) -> None:
        self._stream = stream
        self._title = title
        self._offset = 0
        self._left = 0
        self._described = 0

    def __iter__(self) -> Iterator[Member]:
        while True:
            self._skip(self._left + -self._left % BLOCK if self._left else 0)
            self._left = 0
            member = self._next()
            if member is None:
                self._check_end()
                return
            self._left = member.size
            yield member

    def content(self) -> Iterator[bytes]:
        """The content of the entry that the iteration is at, in pieces. Raises ToolError where the archive ends in it."""
        padding = -self._left % BLOCK
        while self._left:
            data = self._stream.read(min(self._left, 1 << 20))
            if not data:
                raise self.damaged("it ends within a file")
            self._left -= len(data)
            self._offset += len(data)
            yield data
        self._skip(padding)

    def damaged(self, why: str) -> ToolError:
        """An error of this archive."""
        return ToolError(f"{self._title}: its archive is damaged: {why}")

    def refused(self, why: str) -> ToolError:
        """An error of what this archive holds."""
        return ToolError(f"{self._title} holds {why}")

    # -- blocks --------------------------------------------------------------

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                raise self.damaged(f"it ends after {self._offset + len(data)} bytes, without an end marker")
            data += more
        self._offset += size
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._read(min(size, 1 << 20)))

    def _check_end(self) -> None:
        """Behind the end marker there is nothing but zeros: other readers would read on, or would not."""
        while True:
            data = self._stream.read(1 << 20)
            if not data:
                return
            if data.strip(b"\0"):
                raise self.damaged("something stands behind its end")

    # -- headers -------------------------------------------------------------

    def _next(self) -> Optional[Member]:
        records: Dict[bytes, bytes] = {}
        seen: Set[bytes] = set()
        while True:
            block = self._read(BLOCK)
            if not block.strip(b"\0"):
                if seen:
                    raise self.damaged("an extended header at its end belongs to no entry")
                return None
            self._check_sum(block)
            kind = block[156:157]
            if kind not in (b"x", b"X", b"g", b"L", b"K"):
                return self._member(block, records)
            if kind in seen and kind != b"g":
                raise self.damaged("an entry has two extended headers of one kind")
            most = _LONGEST_GNU_NAME if kind in (b"L", b"K") else LARGEST_RECORDS
            size = self._number(block[124:136], "size", most)
            body = self._read(size)
            self._skip(-size % BLOCK)
            if kind == b"g":
                for key, _ in self._records(body):
                    if key.startswith(_OF_ENTRIES):
                        raise self.refused(f"a global header with {key.decode('utf-8', 'backslashreplace')!r}")
                continue
            seen.add(kind)
            if kind in (b"L", b"K"):
                key = b"path" if kind == b"L" else b"linkpath"
                records.setdefault(key, body.split(b"\0", 1)[0])  # what pax says counts more
            else:
                records.update((key, value) for key, value in self._records(body))

    def _check_sum(self, block: bytes) -> None:
        said = self._number(block[148:156], "checksum", 1 << 30)
        rest = block[:148] + b" " * 8 + block[156:]
        # Some old programs took bytes for signed numbers.
        if said != sum(rest) and said != sum(byte - 256 if byte > 127 else byte for byte in rest):
            raise self.damaged(f"the checksum of the header at {self._offset - BLOCK} is wrong")

    def _number(self, data: bytes, what: str, most: int, least: int = 0) -> int:
        if data[0] in (0x80, 0xFF):  # GNU's: two's complement, big endian
            number = int.from_bytes(data[1:], "big") - (1 << 8 * (len(data) - 1) if data[0] == 0xFF else 0)
        else:
            digits = data.split(b"\0", 1)[0].strip(b" ")
            if digits.strip(b"01234567"):
                raise self.damaged(f"a {what} is no number: {data!r}")
            number = int(digits or b"0", 8)
        if not least <= number <= most:
            raise self.damaged(f"a {what} is out of range: {number}")
        return number

    def _records(self, body: bytes) -> Iterator[Tuple[bytes, bytes]]:
        """`LENGTH key=value\\n`, where LENGTH counts itself."""
        at = 0
        body = body.rstrip(b"\0")  # some writers count the padding
        while at < len(body):
            space = body.find(b" ", at, at + 12)
            length = body[at:space] if space > 0 else b""
            end = at + int(length) if length.isdigit() else 0
            if not space < end <= len(body) or body[end - 1 : end] != b"\n":
                raise self.damaged("an extended header has a record of a wrong length")
            key, equals, value = body[space + 1 : end - 1].partition(b"=")
            if not equals or not key or b"\0" in key:
                raise self.damaged("an extended header has a record without a key")
            yield key, value
            at = end

    # -- entries -------------------------------------------------------------

    def _member(self, block: bytes, records: Dict[bytes, bytes]) -> Member:
        raw = records.get(b"path") or _raw_name(block)
        shown = repr(raw[:200].decode("utf-8", "backslashreplace"))
        kind = _KINDS.get(block[156:157])
        if kind is None or any(key.startswith(b"GNU.sparse.") for key in records):
            what = "a sparse file" if kind or block[156:157] == b"S" else f"an entry of unknown kind {block[156:157]!r}"
            raise self.refused(f"{what}: {shown}")
        if kind == tar_headers.REGULAR and raw.endswith(b"/"):
            if block[156:157] != b"\0":
                raise self.refused(f"a file whose name is a directory's: {shown}")
            kind = tar_headers.DIRECTORY  # before there was a kind for it
        device = kind in (tar_headers.CHARDEV, tar_headers.BLOCKDEV)
        size = self._pax_number(records, b"size", _LARGEST_SIZE, self._number(block[124:136], "size", _LARGEST_SIZE))
        member = Member(
            name=self.relative(raw),
            kind=kind,
            mode=self._number(block[100:108], "mode", 1 << 32) & 0o7777,
            uid=self._pax_number(records, b"uid", _LARGEST_ID, self._number(block[108:116], "uid", 1 << 64)),
            gid=self._pax_number(records, b"gid", _LARGEST_ID, self._number(block[116:124], "gid", 1 << 64)),
            size=size if kind == tar_headers.REGULAR else 0,
            mtime=self._mtime(block, records),
            linkname=self._target(kind, records.get(b"linkpath") or block[157:257].split(b"\0", 1)[0], shown),
            major=self._number(block[329:337], "device", _LARGEST_MAJOR) if device else 0,
            minor=self._number(block[337:345], "device", _LARGEST_MINOR) if device else 0,
            offset=self._offset,
            xattrs={key[len(_XATTR) :]: value for key, value in records.items() if key.startswith(_XATTR)},
        )
        for key in member.xattrs:
            if not _ATTRIBUTE.fullmatch(key):
                raise self.refused(f"an attribute of no known kind, {key[:80]!r}: {shown}")
        self._check(member)
        return member

    def _pax_number(self, records: Dict[bytes, bytes], key: bytes, most: int, otherwise: int) -> int:
        text = records.get(key) or b"%d" % otherwise
        if not _NUMBER.fullmatch(text) or int(text) > most:
            raise self.damaged(f"a {key.decode()} is no number, or out of range: {text[:80]!r}")
        return int(text)

    def _mtime(self, block: bytes, records: Dict[bytes, bytes]) -> Union[int, float]:
        text = records.get(b"mtime")
        if not text:
            return self._number(block[136:148], "time", _LARGEST_SIZE, -_LARGEST_SIZE)
        if not _TIME.fullmatch(text):
            raise self.damaged(f"a time is no number: {text[:80]!r}")
        return float(text) if b"." in text else int(text)

    def relative(self, raw: bytes) -> bytes:
        """A name of an entry without `.` and empty components. Raises ToolError for one that leads elsewhere, or is too long."""
        shown = repr(raw[:200].decode("utf-8", "backslashreplace"))
        parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
        if b".." in parts or raw.startswith(b"/") or b"\0" in raw:
            raise self.refused(f"an unsafe name: {shown}")
        name = b"/".join(parts)
        if len(name) > LONGEST_PATH or any(len(part) > LONGEST_COMPONENT for part in parts):
            raise self.refused(f"a name that is too long for a file, of {len(name)} bytes: {shown}")
        return name

    def _target(self, kind: bytes, target: bytes, shown: str) -> bytes:
        if kind == tar_headers.HARDLINK:
            return self.relative(target)
        if kind != tar_headers.SYMLINK:
            return b""
        if not 0 < len(target) <= _LONGEST_TARGET or b"\0" in target:
            raise self.refused(f"a symlink whose target is none, of {len(target)} bytes: {shown}")
        return target

    def _check(self, member: Member) -> None:
        """What an entry means for a layer, or that it means nothing."""
        parts = member.name.split(b"/")
        self._described += _PER_ENTRY + len(member.name) + len(member.linkname)
        self._described += sum(len(key) + len(value) for key, value in member.xattrs.items())
        if self._described > _MOST_DESCRIBED:
            raise self.refused(f"names and attributes of more than {_MOST_DESCRIBED >> 20} MiB")
        if any(part.startswith(WHITEOUT) for part in parts[:-1]):
            raise self.refused(f"something below a whiteout: {member.shown}")
        if not member.name and member.kind != tar_headers.DIRECTORY:
            raise self.refused("a root that is no directory")
        if member.kind == tar_headers.CHARDEV and member.major == member.minor == 0:
            raise self.refused(f"a device that overlayfs takes for a deleted file: {member.shown}")
        if not parts[-1].startswith(WHITEOUT):
            return
        hidden = parts[-1][len(WHITEOUT) :]
        if parts[-1] == OPAQUE:
            if len(parts) == 1:
                raise self.refused("a whiteout of all that lies below the root, which overlayfs does not know")
            hidden = b""
        elif hidden in (b"", b".", b"..") or hidden.startswith(WHITEOUT):
            raise self.refused(f"a whiteout without a name: {member.shown}")
        member.hides = hidden


def _raw_name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    # GNU's own format has other fields in the prefix's place.
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name
