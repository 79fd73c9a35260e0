"""Turns a directory (an overlay's upper directory, or a whole root) into a deterministic tar stream.

Sorted by name, mtimes clamped, owners by rule, hard links kept, overlayfs's whiteouts and opaque directories turned
into OCI's (`.wh.NAME`, `.wh..wh..opq`). The same tree gives the same bytes on every machine.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Protocol, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import holes, tar_headers, walk_tree
from opam_sandbox.layer.compress import LARGEST_LAYER
from opam_sandbox.layer.tar_headers import OPAQUE, WHITEOUT, Entry
from opam_sandbox.layer.walk_tree import Found, Rules, Walk
from opam_sandbox.sandbox import layer_paths, open_in_root

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


class Sink(Protocol):
    """Where a tar stream goes."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        ...


class Taken(NamedTuple):
    """A path of the tree as it went into the layer: `stat` is what it is on disk, the rest what the layer says."""

    path: bytes
    stat: os.stat_result
    uid: int
    gid: int
    mtime: int
    opaque: bool


class Captured:
    """The number of entries, the paths of whiteouts and opaque directories among them, and all that was taken. over_links: files
    that stand where a lower directory has one of several names of a file, each with that one's full path."""

    def __init__(self) -> None:
        self.entries = 0
        self.whiteouts: List[bytes] = []
        self.opaque: List[bytes] = []
        self.taken: List[Taken] = []
        self.over_links: List[Tuple[bytes, bytes]] = []


def capture(root: Path, rules: Rules, sink: Sink) -> Captured:
    """Write the tree below `root` to `sink` as a tar stream. Raises ToolError for what cannot be read or cannot be in a layer,
    OSError where the stream cannot be written."""
    result = Captured()
    links: Dict[Tuple[int, int], bytes] = {}
    try:
        with open_in_root.directory(root) as directory:
            # A path of a few bytes: what a layer can hold does not depend on where it was made.
            top = b"/proc/self/fd/%d" % directory
            walk = Walk(top, rules)
            for item in walk.found():
                _write(top, directory, item, rules, links, result, sink)
            result.over_links = walk.over_links
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


def _write(
    top: bytes,
    directory: int,
    item: Found,
    rules: Rules,
    links: Dict[Tuple[int, int], bytes],
    result: Captured,
    sink: Sink,
) -> None:
    """`directory`: a descriptor of `top`."""
    status, path = item.stat, item.path
    full = os.path.join(top, path)
    mode = status.st_mode
    mtime = max(0, min(int(status.st_mtime), EPOCH))
    uid, gid = rules.owner(path, status)
    result.entries += 1
    if not stat.S_ISSOCK(mode):
        result.taken.append(Taken(path, status, uid, gid, mtime, item.opaque))

    def emit(entry: Entry) -> None:
        sink.write(tar_headers.header(entry))

    if layer_paths.is_whiteout(status):
        parent, name = os.path.split(path)
        result.whiteouts.append(path)
        if len(WHITEOUT + name) > tar_headers.LONGEST_COMPONENT:
            raise ToolError(
                f"/{os.fsdecode(path)} was deleted, which a layer cannot say: with `.wh.` in front, its name would have "
                f"{len(WHITEOUT + name)} bytes, and no file's has more than {tar_headers.LONGEST_COMPONENT}"
            )
        emit(Entry(os.path.join(parent, WHITEOUT + name), tar_headers.REGULAR, 0o644, 0, 0, 0, EPOCH))
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
    xattrs = walk_tree.xattrs(full)
    if not set(walk_tree.ACCESS_LISTS).isdisjoint(xattrs):
        raise ToolError(
            f"/{os.fsdecode(path)} has an access control list, which engines do not unpack; have the package give it owner and "
            "mode alone (`setfacl --remove-all` takes the list away)"
        )
    entry = Entry(path, tar_headers.REGULAR, stat.S_IMODE(mode), uid, gid, 0, mtime, xattrs=xattrs)
    if stat.S_ISDIR(mode):
        emit(entry._replace(kind=tar_headers.DIRECTORY))
        if item.opaque:
            result.opaque.append(path)
            emit(Entry(path + b"/" + OPAQUE, tar_headers.REGULAR, 0o644, 0, 0, 0, EPOCH))
    elif stat.S_ISLNK(mode):
        emit(entry._replace(kind=tar_headers.SYMLINK, mode=0o777, linkname=os.readlink(full)))
    elif stat.S_ISREG(mode):
        _write_file(directory, path, entry, emit, sink)
    elif stat.S_ISFIFO(mode):
        emit(entry._replace(kind=tar_headers.FIFO))
    else:
        kind = tar_headers.CHARDEV if stat.S_ISCHR(mode) else tar_headers.BLOCKDEV
        emit(entry._replace(kind=kind, major=os.major(status.st_rdev), minor=os.minor(status.st_rdev)))


def _write_file(directory: int, path: bytes, entry: Entry, emit: Callable[[Entry], None], sink: Sink) -> None:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    with open(open_in_root.open_at(directory, os.fsdecode(path), flags), "rb", buffering=0) as content:
        # The size of what is open, not of what was seen before: header and content always agree.
        entry = entry._replace(size=os.fstat(content.fileno()).st_size)
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
