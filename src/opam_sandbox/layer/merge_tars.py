"""Several layers' tars made into one that means the same: what they show together, over whatever lies below them.

Works on the archives and not on unpacked trees, so owners, devices and attributes are right without privileges too. Every
entry's metadata is its last layer's; content is copied out of the archives as it is. Source: OCI image-spec, layer.md
("Applying changesets").
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import BinaryIO, Dict, Iterator, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.capture import EPOCH, Sink
from opam_sandbox.layer.read_tar import Member, TarReader
from opam_sandbox.layer.tar_headers import OPAQUE, WHITEOUT, Entry
from opam_sandbox.layer.unpack import IGNORED_XATTRS, MOST_IMPLIED


@dataclass
class _Inode:
    """What the names of one file share: its entry, and where its content is (archive's number, offset)."""

    entry: Entry
    archive: int = 0
    offset: int = 0


@dataclass
class _Node:
    """A name. inode None: a directory that no layer here has an entry for. `layer`: the number of the last that has the name."""

    inode: Optional[_Inode] = None
    directory: bool = False
    opaque: bool = False
    deleted: bool = False
    layer: int = -1
    children: Dict[bytes, "_Node"] = field(default_factory=dict)


def merge(archives: Sequence[BinaryIO], sink: Sink, whole: bool, titles: Sequence[str] = ()) -> int:
    """Write the layers in `archives` (plain, seekable tars, bottom first) as one tar; returns its number of entries.

    whole: nothing lies below, so nothing has to be hidden and no whiteouts are written. `titles` name the layers in messages.
    Raises ToolError for an archive that makes no sense as a layer.
    """
    top = _Node(directory=True)
    for number, archive in enumerate(archives):
        _Layer(top, number, TarReader(archive, titles[number] if titles else "a layer")).apply()
    count = 0
    first: Dict[int, bytes] = {}
    for path, node in _sorted(top):
        count += _write(path, node, archives, first, sink, whole)
    sink.write(tar_headers.END)
    return count


class _Layer:
    """The layer `number`, put over those that `top` has already."""

    def __init__(self, top: _Node, number: int, archive: TarReader) -> None:
        self._top = top
        self._number = number
        self._archive = archive
        self._here: Dict[bytes, _Inode] = {}
        self._implied = 0
        # The last directory: most entries are beside the one before.
        self._last: Tuple[bytes, _Node] = (b"", top)

    def apply(self) -> None:
        """Raises ToolError."""
        entries = [member for member in self._archive if member.name]
        # What a layer hides is what lies below it, wherever in the archive it says so.
        for member in entries:
            if member.hides is not None:
                self._hide(os.path.dirname(member.name), member.hides)
        for member in entries:
            if member.hides is None:
                self._add(member)

    def _hide(self, directory: bytes, name: bytes) -> None:
        node = self._directory(directory)
        self._last = (b"", self._top)
        if name:
            old = node.children.get(name)
            if old is None or not old.directory or old.layer != self._number:
                node.children[name] = _Node(deleted=True, layer=self._number)
                return
            node = old
        # What this layer hides in there stays hidden; nothing else is this layer's yet.
        node.children = {key: child for key, child in node.children.items() if child.layer == self._number}
        node.opaque = True

    def _add(self, member: Member) -> None:
        directory, name = os.path.split(member.name)
        parent = self._directory(directory)
        old = parent.children.get(name)
        mine = old is not None and old.layer == self._number
        if member.kind == tar_headers.DIRECTORY:
            self._here.pop(member.name, None)
            inode = _Inode(_entry(member), self._number, member.offset)
            if old is not None and old.directory:
                old.inode, old.layer = inode, self._number
            else:
                # A directory in the place of something else shows nothing of what lies further below.
                parent.children[name] = _Node(inode, True, opaque=old is not None, layer=self._number)
            return
        if old is not None and old.directory and mine:
            raise self._archive.refused(f"both a directory and a file named {member.shown}")
        if member.kind == tar_headers.HARDLINK:
            target = self._here.get(member.linkname)
            if target is None:
                shown = repr(os.fsdecode(member.linkname))
                raise self._archive.refused(f"a hard link {member.shown} that names no file of it: {shown}")
            inode = target
        else:
            inode = _Inode(_entry(member), self._number, member.offset)
        parent.children[name] = _Node(inode, layer=self._number)
        self._here[member.name] = inode

    def _directory(self, path: bytes) -> _Node:
        if path == self._last[0]:
            return self._last[1]
        node = self._top
        for name in path.split(b"/") if path else ():
            child = node.children.get(name)
            if child is None or not child.directory:
                if child is not None and child.layer == self._number and not child.deleted:
                    shown = repr(os.fsdecode(path))
                    raise self._archive.refused(f"something below {shown}, where not all is a directory")
                self._implied += 1
                if self._implied > MOST_IMPLIED:
                    raise self._archive.refused(
                        f"names in more than {MOST_IMPLIED} directories that it has no entries for"
                    )
                child = _Node(directory=True, opaque=child is not None)
                node.children[name] = child
            child.layer = self._number
            node = child
        self._last = (path, node)
        return node


def entry_of(member: Member, xattrs: Dict[bytes, bytes]) -> Entry:
    """What a header says of a member, with these extended attributes."""
    return Entry(
        member.name,
        member.kind,
        member.mode,
        member.uid,
        member.gid,
        member.size,
        int(member.mtime),
        member.linkname,
        member.major,
        member.minor,
        xattrs,
    )


def _entry(member: Member) -> Entry:
    kept = {key: value for key, value in member.xattrs.items() if not key.startswith(IGNORED_XATTRS)}
    return entry_of(member, kept)


def _sorted(top: _Node) -> Iterator[Tuple[bytes, _Node]]:
    """Parents first, then by name, as `capture` walks a tree."""
    waiting = [(b"", top)]
    while waiting:
        path, node = waiting.pop()
        if path:
            yield path, node
        for name in sorted(node.children, reverse=True):
            waiting.append((path + b"/" + name if path else name, node.children[name]))


def _write(
    path: bytes, node: _Node, archives: Sequence[BinaryIO], first: Dict[int, bytes], sink: Sink, whole: bool
) -> int:
    if node.deleted:
        if whole:
            return 0
        directory, name = os.path.split(path)
        sink.write(tar_headers.header(_mark(os.path.join(directory, WHITEOUT + name))))
        return 1
    count = 0
    if node.inode is not None:
        count = 1
        entry = node.inode.entry
        known = first.setdefault(id(node.inode), path)
        if known != path:
            link = Entry(path, tar_headers.HARDLINK, entry.mode, entry.uid, entry.gid, 0, entry.mtime, known)
            sink.write(tar_headers.header(link))
            return count
        sink.write(tar_headers.header(entry._replace(name=path)))
        if entry.kind == tar_headers.REGULAR:
            _copy(archives[node.inode.archive], node.inode.offset, entry.size, sink)
    if node.opaque and not whole:
        count += 1
        sink.write(tar_headers.header(_mark(path + b"/" + OPAQUE)))
    return count


def _mark(path: bytes) -> Entry:
    return Entry(path, tar_headers.REGULAR, 0o644, 0, 0, 0, EPOCH)


def _copy(archive: BinaryIO, offset: int, size: int, sink: Sink) -> None:
    archive.seek(offset)
    left = size
    while left:
        data = archive.read(min(left, 1 << 20))
        if not data:
            raise ToolError("a layer's archive ends within a file")
        sink.write(data)
        left -= len(data)
    sink.write(tar_headers.padding(size))
