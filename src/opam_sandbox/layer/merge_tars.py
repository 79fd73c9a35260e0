"""Several layers' tars made into one that means the same: what they show together, over whatever lies below them.

Works on the archives and not on unpacked trees, so owners, devices and attributes are right without privileges too. Every
entry's metadata is its last layer's; content is copied out of the archives as it is. Source: OCI image-spec, layer.md
("Applying changesets").
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass, field
from typing import BinaryIO, Dict, Iterator, List, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.capture import EPOCH, Sink
from opam_sandbox.layer.tar_headers import Entry
from opam_sandbox.layer.unpack import OPAQUE, WHITEOUT, relative_name

_KINDS = {
    tarfile.REGTYPE: tar_headers.REGULAR,
    tarfile.AREGTYPE: tar_headers.REGULAR,
    tarfile.CONTTYPE: tar_headers.REGULAR,
    tarfile.SYMTYPE: tar_headers.SYMLINK,
    tarfile.CHRTYPE: tar_headers.CHARDEV,
    tarfile.BLKTYPE: tar_headers.BLOCKDEV,
    tarfile.DIRTYPE: tar_headers.DIRECTORY,
    tarfile.FIFOTYPE: tar_headers.FIFO,
}
_XATTR = "SCHILY.xattr."


@dataclass
class _Inode:
    """What the names of one file share: its entry, and where its content is (archive's number, offset)."""

    entry: Entry
    archive: int = 0
    offset: int = 0


@dataclass
class _Node:
    """A name. inode None: a directory that no layer here has an entry for."""

    inode: Optional[_Inode] = None
    directory: bool = False
    opaque: bool = False
    deleted: bool = False
    children: Dict[bytes, "_Node"] = field(default_factory=dict)


def merge(archives: Sequence[BinaryIO], sink: Sink, whole: bool) -> int:
    """Write the layers in `archives` (plain, seekable tars, bottom first) as one tar; returns its number of entries.

    whole: nothing lies below, so nothing has to be hidden and no whiteouts are written. Raises ToolError for an archive
    that makes no sense as a layer.
    """
    top = _Node(directory=True)
    for number, archive in enumerate(archives):
        _apply(top, number, archive)
    count = 0
    first: Dict[int, bytes] = {}
    for path, node in _sorted(top, b""):
        count += _write(path, node, archives, first, sink, whole)
    sink.write(tar_headers.END)
    return count


def _apply(top: _Node, number: int, archive: BinaryIO) -> None:
    here: Dict[bytes, _Inode] = {}
    entries: List[Tuple[bytes, tarfile.TarInfo]] = []
    try:
        with tarfile.open(fileobj=archive, mode="r:", encoding="utf-8", errors="surrogateescape") as members:
            for member in members:
                path = relative_name(member.name)
                if path:
                    entries.append((path, member))
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise ToolError(f"a layer's archive is damaged: {error}") from None
    # What a layer hides is what lies below it, wherever in the archive it says so.
    for path, _ in entries:
        directory, name = os.path.split(path)
        if name == OPAQUE:
            node = _directory(top, directory)
            node.children.clear()
            node.opaque = True
        elif name.startswith(WHITEOUT):
            _directory(top, directory).children[name[len(WHITEOUT) :]] = _Node(deleted=True)
    for path, member in entries:
        directory, name = os.path.split(path)
        if name.startswith(WHITEOUT):
            continue
        parent = _directory(top, directory)
        old = parent.children.get(name)
        if member.islnk():
            target = here.get(relative_name(member.linkname))
            if target is None:
                raise ToolError(f"a layer's hard link {member.name!r} names no file of the layer: {member.linkname!r}")
            parent.children[name] = _Node(target)
            here[path] = target
            continue
        inode = _Inode(_entry(path, member), number, member.offset_data)
        here[path] = inode
        if member.isdir() and old is not None and old.directory:
            old.inode = inode
        else:
            # A directory in the place of something else shows nothing of what lies further below.
            parent.children[name] = _Node(inode, member.isdir(), opaque=member.isdir() and old is not None)


def _directory(top: _Node, path: bytes) -> _Node:
    node = top
    for name in path.split(b"/") if path else []:
        child = node.children.get(name)
        if child is None or not child.directory:
            child = _Node(directory=True, opaque=child is not None)
            node.children[name] = child
        node = child
    return node


def _entry(path: bytes, member: tarfile.TarInfo) -> Entry:
    kind = _KINDS.get(member.type)
    if kind is None:
        raise ToolError(f"a layer holds an entry of unknown kind {member.type!r}: {member.name!r}")
    return Entry(
        path,
        kind,
        member.mode,
        member.uid,
        member.gid,
        member.size if kind == tar_headers.REGULAR else 0,
        int(member.mtime),
        os.fsencode(member.linkname) if kind == tar_headers.SYMLINK else b"",
        member.devmajor,
        member.devminor,
        {
            os.fsencode(key[len(_XATTR) :]): value.encode("utf-8", "surrogateescape")
            for key, value in member.pax_headers.items()
            if key.startswith(_XATTR)
        },
    )


def _sorted(node: _Node, path: bytes) -> Iterator[Tuple[bytes, _Node]]:
    """Parents first, then by name, as `capture` walks a tree."""
    for name in sorted(node.children):
        child = node.children[name]
        below = path + b"/" + name if path else name
        yield below, child
        if child.directory:
            yield from _sorted(child, below)


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
        entry.name = path
        sink.write(tar_headers.header(entry))
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
