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
from typing import Callable, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import holes, tar_headers
from opam_sandbox.layer.compress import LARGEST_LAYER
from opam_sandbox.layer.read_tar import OPAQUE, WHITEOUT
from opam_sandbox.layer.tar_headers import Entry
from opam_sandbox.sandbox import open_in_root

# 1980-01-01, the oldest time that zip archives can hold: no file of a layer is younger.
EPOCH = 315532800

# What a tree can have in it that is not to be read.
_UNREADABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOENT,
    errno.ESTALE,
    errno.ENXIO,
)

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
    lower: the lower directories, topmost first; a directory that stands there with the same mode and owner, and of which nothing
    is taken, is left out as well. owner_below(path, stat): of such a directory; None: as `owner`.
    """

    skip: Callable[[bytes, bool], bool]
    owner: Callable[[bytes, os.stat_result], Tuple[int, int]]
    lower: Sequence[bytes] = ()
    owner_below: Optional[Callable[[bytes, os.stat_result], Tuple[int, int]]] = None
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
    """Write the tree below `root` to `sink` as a tar stream. Raises ToolError for what cannot be read or cannot be in a layer,
    OSError where the stream cannot be written."""
    result = Captured()
    links: Dict[Tuple[int, int], bytes] = {}
    try:
        with open_in_root.directory(root) as directory:
            # A path of a few bytes: what a layer can hold does not depend on where it was made.
            top = b"/proc/self/fd/%d" % directory
            for item in _Walk(top, rules).found():
                _write(top, directory, item, rules, links, result, sink)
    except OSError as error:
        if error.filename is None or error.errno not in _UNREADABLE:
            raise  # of who writes the stream, or of the machine
        raise ToolError(
            f"the layer cannot be made: {_shown(error.filename)} cannot be read: {error.strerror}"
        ) from None
    sink.write(tar_headers.END)
    return result


def _shown(name: Union[str, bytes, int]) -> str:
    """A name of an error, as the view has it."""
    text = os.fsdecode(name) if not isinstance(name, int) else "a file"
    parts = text.split("/", 5)
    return "/" + parts[5] if text.startswith("/proc/self/fd/") and len(parts) > 5 else text


class _Walk:
    """The entries of a tree that go into the layer, parents first, sorted by name."""

    def __init__(self, top: bytes, rules: Rules) -> None:
        self._top = top
        self._rules = rules
        self._found: List[_Found] = []

    def found(self) -> List[_Found]:
        """Raises OSError, ToolError."""
        # Directories whose entries are still to come, the innermost last: no deeper tree ends this process. None: all have come.
        waiting: List[Tuple[bytes, Optional[_Found], Sequence[bytes], Iterator[bytes]]] = []
        waiting.append((b"", None, self._rules.lower, self._names(b"")))
        while waiting:
            directory, item, lower, names = waiting[-1]
            name = next(names, None)
            if name is not None:
                path = os.path.join(directory, name)
                merged = self._take(path, name, lower)
                if merged is not None:
                    waiting.append((path, self._found[-1], merged, self._names(path)))
                continue
            waiting.pop()
            if self._found and self._found[-1] is item and lower and self._is_like(directory, lower[0]):
                self._found.pop()  # copied up for something that is not taken
        return self._found

    def _is_like(self, path: bytes, below: bytes) -> bool:
        full, rules = os.path.join(self._top, path), self._rules
        here, there = os.lstat(full), os.lstat(below)
        return (
            stat.S_IMODE(here.st_mode) == stat.S_IMODE(there.st_mode)
            and rules.owner(path, here) == (rules.owner_below or rules.owner)(path, there)
            and _xattrs(full) == _xattrs(below)
        )

    def _names(self, directory: bytes) -> Iterator[bytes]:
        with os.scandir(os.path.join(self._top, directory)) as entries:
            return iter(sorted(entry.name for entry in entries))

    def _take(self, path: bytes, name: bytes, lower: Sequence[bytes]) -> Optional[List[bytes]]:
        """Note an entry. For a directory whose entries are to come, the lower ones that are merged with it, topmost first."""
        rules, full = self._rules, os.path.join(self._top, path)
        if len(path) > tar_headers.LONGEST_PATH:
            raise ToolError(
                f"/{os.fsdecode(path[:200])}... cannot be in a layer: its name has {len(path)} bytes, and what unpacks images "
                f"takes names of {tar_headers.LONGEST_PATH}"
            )
        status = os.lstat(full)
        if rules.skip(path, stat.S_ISDIR(status.st_mode)):
            return None
        if rules.whiteouts and name.startswith(WHITEOUT):
            raise ToolError(
                f"/{os.fsdecode(path)} cannot be in a layer, where a name with `.wh.` in front marks a deleted file"
            )
        if not stat.S_ISDIR(status.st_mode):
            self._found.append(_Found(path, status))
            return None
        merged = _merged_below(name, lower)
        # overlayfs also marks directories that hide nothing, such as every one that dpkg renames into place. Said in a
        # layer, that would hide what a layer beside it has there.
        opaque = rules.whiteouts and _is_opaque(full) and bool(merged or not rules.lower)
        self._found.append(_Found(path, status, opaque))
        return [] if opaque else merged


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
        if len(WHITEOUT + name) > tar_headers.LONGEST_COMPONENT:
            raise ToolError(
                f"/{os.fsdecode(path)} was deleted, which a layer cannot say: with `.wh.` in front, its name would have "
                f"{len(WHITEOUT + name)} bytes, and no file's has more than {tar_headers.LONGEST_COMPONENT}"
            )
        emit(Entry(os.path.join(parent, WHITEOUT + name), tar_headers.REGULAR, 0o644, 0, 0, 0, rules.epoch))
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
            emit(Entry(path + b"/" + OPAQUE, tar_headers.REGULAR, 0o644, 0, 0, 0, rules.epoch))
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
        if entry.size > LARGEST_LAYER:
            raise ToolError(
                f"/{os.fsdecode(path)} has {entry.size} bytes, and a layer at most {LARGEST_LAYER >> 30} GiB, holes of files "
                "included"
            )
        emit(entry)
        try:
            for data in holes.content(content.fileno(), entry.size):
                sink.write(data)
        except OSError as error:
            if error.errno == errno.EIO and error.filename is None:
                raise OSError(errno.EIO, error.strerror, os.fsdecode(path)) from None
            raise
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
