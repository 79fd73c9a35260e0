"""Turns a directory (an overlay's upper directory, or a whole root) into a deterministic tar stream.

Sorted by name, mtimes clamped, owners by rule, hard links kept, overlayfs's whiteouts and opaque directories turned
into OCI's (`.wh.NAME`, `.wh..wh..opq`). The same tree gives the same bytes on every machine.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional, Protocol, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.tar_headers import Entry
from opam_sandbox.sandbox import open_in_root

# 1980-01-01, the oldest time that zip archives can hold: no file of a layer is younger.
EPOCH = 315532800

# How the overlay file system marks directories for itself; none of it means anything in a layer.
OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")
# Access control lists name users by numbers, which without privileges are others.
LEFT_OUT_XATTRS = (*OVERLAY_XATTRS, b"system.")


class Sink(Protocol):
    """Where a tar stream goes."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        ...


@dataclass
class Rules:
    """What of the tree is taken, and as whose.

    skip(path, directory): leave out this path and all below it. owner(path, stat): (uid, gid).
    lower: the lower directories, topmost first; a directory that stands there with the same mode, and of which nothing
    is taken, is left out as well.
    """

    skip: Callable[[bytes, bool], bool]
    owner: Callable[[bytes, os.stat_result], Tuple[int, int]]
    lower: Sequence[bytes] = ()
    epoch: int = EPOCH
    whiteouts: bool = True


@dataclass(frozen=True)
class Taken:
    """A path of the tree as it went into the layer: `stat` is what it is on disk, the rest what the layer says."""

    path: bytes
    stat: os.stat_result
    uid: int
    gid: int
    mtime: int
    opaque: bool


@dataclass
class Captured:
    """The number of entries, the paths of whiteouts and opaque directories among them, and all that was taken."""

    entries: int = 0
    whiteouts: List[bytes] = field(default_factory=list)
    opaque: List[bytes] = field(default_factory=list)
    taken: List[Taken] = field(default_factory=list)


@dataclass
class _Found:
    path: bytes
    stat: os.stat_result
    opaque: bool = False


def capture(root: Path, rules: Rules, sink: Sink) -> Captured:
    """Write the tree below `root` to `sink` as a tar stream. Raises OSError for what cannot be read."""
    top = os.fsencode(root)
    found: List[_Found] = []
    _walk(top, b"", rules, rules.lower, found)
    result = Captured()
    links: Dict[Tuple[int, int], bytes] = {}
    with open_in_root.directory(root) as directory:
        for item in found:
            _write(top, directory, item, rules, links, result, sink)
    sink.write(tar_headers.END)
    return result


def _walk(top: bytes, relative: bytes, rules: Rules, lower: Sequence[bytes], found: List[_Found]) -> None:
    """Append the entries below a directory, parents first, sorted by name. `lower`: what is merged with it, topmost first."""
    with os.scandir(os.path.join(top, relative) if relative else top) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = os.path.join(relative, name) if relative else name
        full = os.path.join(top, path)
        status = os.lstat(full)
        if rules.skip(path, stat.S_ISDIR(status.st_mode)):
            continue
        if rules.whiteouts and name.startswith(b".wh."):
            raise ToolError(
                f"/{os.fsdecode(path)} cannot be in a layer, where a name with `.wh.` in front marks a deleted file"
            )
        if not stat.S_ISDIR(status.st_mode):
            found.append(_Found(path, status))
            continue
        merged = _merged_below(name, lower)
        # overlayfs also marks directories that hide nothing, such as every one that dpkg renames into place. Said in a
        # layer, that would hide what a layer beside it has there.
        opaque = rules.whiteouts and _is_opaque(full) and bool(merged or not rules.lower)
        item = _Found(path, status, opaque)
        found.append(item)
        below = [] if opaque else merged
        _walk(top, path, rules, below, found)
        if found[-1] is item and below and _is_like(full, below[0]):
            found.pop()  # copied up for something that is not taken


def _is_opaque(full: bytes) -> bool:
    for name in (b"trusted.overlay.opaque", b"user.overlay.opaque"):
        try:
            if os.getxattr(full, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _merged_below(name: bytes, lower: Sequence[bytes]) -> List[bytes]:
    """The directories `name` of lower layers that are merged: down to the first whiteout, file or opaque directory."""
    result: List[bytes] = []
    for directory in lower:
        full = os.path.join(directory, name)
        try:
            if not stat.S_ISDIR(os.lstat(full).st_mode):
                break
        except FileNotFoundError:
            continue
        result.append(full)
        if _is_opaque(full):
            break
    return result


def _is_like(full: bytes, below: bytes) -> bool:
    return stat.S_IMODE(os.lstat(full).st_mode) == stat.S_IMODE(os.lstat(below).st_mode) and _xattrs(full) == _xattrs(
        below
    )


def _write(
    top: bytes,
    directory: int,
    item: _Found,
    rules: Rules,
    links: Dict[Tuple[int, int], bytes],
    result: Captured,
    sink: Sink,
) -> None:
    """`directory`: a descriptor of `top`."""
    status, path = item.stat, item.path
    full = os.path.join(top, path)
    mode = status.st_mode
    mtime = max(0, min(int(status.st_mtime), rules.epoch))
    uid, gid = rules.owner(path, status)
    result.entries += 1
    if not stat.S_ISSOCK(mode):
        result.taken.append(Taken(path, status, uid, gid, mtime, item.opaque))

    def emit(entry: Entry) -> None:
        sink.write(tar_headers.header(entry))

    if rules.whiteouts and stat.S_ISCHR(mode) and status.st_rdev == 0:
        parent, name = os.path.split(path)
        result.whiteouts.append(path)
        emit(Entry(os.path.join(parent, b".wh." + name), tar_headers.REGULAR, 0o644, 0, 0, 0, rules.epoch))
        return
    if stat.S_ISSOCK(mode):
        result.entries -= 1  # tar has no sockets, and a dead one is of no use
        return
    if not stat.S_ISDIR(mode) and status.st_nlink > 1:
        inode = (status.st_dev, status.st_ino)
        first = links.setdefault(inode, path)
        if first != path:
            emit(Entry(path, tar_headers.HARDLINK, stat.S_IMODE(mode), uid, gid, 0, mtime, first))
            return
    entry = Entry(path, tar_headers.REGULAR, stat.S_IMODE(mode), uid, gid, 0, mtime, xattrs=_xattrs(full))
    if stat.S_ISDIR(mode):
        entry.kind = tar_headers.DIRECTORY
        emit(entry)
        if item.opaque:
            result.opaque.append(path)
            emit(Entry(path + b"/.wh..wh..opq", tar_headers.REGULAR, 0o644, 0, 0, 0, rules.epoch))
    elif stat.S_ISLNK(mode):
        entry.kind, entry.mode, entry.linkname = tar_headers.SYMLINK, 0o777, os.readlink(full)
        emit(entry)
    elif stat.S_ISREG(mode):
        _write_file(directory, path, entry, emit, sink)
    elif stat.S_ISFIFO(mode):
        entry.kind = tar_headers.FIFO
        emit(entry)
    else:
        entry.kind = tar_headers.CHARDEV if stat.S_ISCHR(mode) else tar_headers.BLOCKDEV
        entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        emit(entry)


def _write_file(directory: int, path: bytes, entry: Entry, emit: Callable[[Entry], None], sink: Sink) -> None:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    with open(open_in_root.open_at(directory, os.fsdecode(path), flags), "rb", buffering=0) as content:
        # The size of what is open, not of what was seen before: header and content always agree.
        entry.size = os.fstat(content.fileno()).st_size
        emit(entry)
        left = entry.size
        while left:
            data: Optional[bytes] = content.read(min(left, 1 << 20))
            if not data:
                raise OSError(errno.EIO, f"{os.fsdecode(path)} became shorter while it was read")
            sink.write(data)
            left -= len(data)
    sink.write(tar_headers.padding(entry.size))


def _xattrs(full: bytes) -> Dict[bytes, bytes]:
    try:
        names = [os.fsencode(name) for name in os.listxattr(full, follow_symlinks=False)]
    except OSError:
        return {}
    return {
        name: os.getxattr(full, name, follow_symlinks=False)
        for name in names
        if not name.startswith(LEFT_OUT_XATTRS) and name != b"security.selinux"
    }
