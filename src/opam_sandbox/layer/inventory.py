"""What a directory of the store consists of, recorded when it was made, and compared with what is there later.

An inventory is bytes: a line with a version, the sha256 (hex) of what follows and the number of entries; then, for the tree's
top (its PATH is empty) and each entry of it, `MODE SIZE MTIME OWNER CONTENT XATTRS PATH` and a NUL. MODE is octal. SIZE is a
file's or a link's in bytes, a device's number, 0 for others. OWNER is `UID:GID`. CONTENT is the sha256 of a file's bytes or of
a link's target. XATTRS is the sha256 of those attributes that a layer can have. `-` stands for none, `?` for what its maker
could not read. A user's inventory has no owners: there is one, who has another number inside of a user namespace.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from opam_sandbox.layer import holes

_VERSION = b"2"
_NONE, UNREADABLE = b"-", b"?"

# Others depend on the machine, such as security.selinux.
_XATTRS = ("user.", "trusted.overlay.", "security.capability")

# What damage looks like to who reads. Other errors say something of the reader, such as that it has too many files open.
_DAMAGE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EIO,
    errno.EBADMSG,
    errno.EUCLEAN,
    errno.ESTALE,
)


def record(tree: Path, owners: bool) -> bytes:
    """The inventory of a tree that nobody changes. Raises OSError."""
    contents: Dict[Tuple[int, int], bytes] = {}
    entries = [
        b"%s %s %s %s %s\0"
        % (_outside(found), _owner(found, owners), _content(path, found, contents), _xattrs(path, found), relative)
        for relative, path, found in _walk(os.fsencode(tree), set())
    ]
    body = b"".join(entries)
    return b"%s %s %d\n%s" % (_VERSION, hashlib.sha256(body).hexdigest().encode(), len(entries), body)


def difference(tree: Path, recorded: bytes, contents: bool) -> str:
    """The first difference between a tree and its inventory, in words; "" if there is none. Raises OSError.

    `contents`: also what files and attributes hold, and not only which entries there are, of what mode, size and time.
    """
    expected = _parse(recorded)
    if expected is None:
        return "its inventory is damaged"
    closed = {path for path, (_, _, content, _) in expected.items() if content == UNREADABLE}
    read: Dict[Tuple[int, int], bytes] = {}
    name = "its top directory"
    try:
        for relative, path, found in _walk(os.fsencode(tree), closed):
            entry = expected.pop(relative, None)
            name = repr(os.fsdecode(relative)) if relative else name
            if entry is None:
                return f"{name} is not of it"
            outside, owner, content, xattrs = entry
            if _outside(found) != outside:
                return f"{name} has another mode, size or time"
            if _owner(found, owner != _NONE) != owner:
                return f"{name} has another owner"
            if contents and content != UNREADABLE and _content(path, found, read) != content:
                return f"{name} holds something else"
            if contents and xattrs != UNREADABLE and _xattrs(path, found) != xattrs:
                return f"{name} has other attributes"
    except OSError as error:
        if error.errno not in _DAMAGE:
            raise
        where = repr(os.path.relpath(os.fsdecode(error.filename), tree)) if error.filename else name
        return f"{where} cannot be read ({error.strerror})"
    if expected:
        return f"{os.fsdecode(min(expected))!r} is missing"
    return ""


def modes(recorded: bytes) -> Optional[List[Tuple[bytes, int]]]:
    """(path, st_mode) of every entry; None for a damaged inventory."""
    expected = _parse(recorded)
    if expected is None:
        return None
    return [(path, int(outside.partition(b" ")[0], 8)) for path, (outside, _, _, _) in expected.items() if path]


def entries(recorded: bytes) -> Optional[Dict[bytes, bytes]]:
    """Every entry but the top, by path, as a line of the inventory; None for a damaged inventory. Of many, few are looked at."""
    lines = _lines(recorded)
    if lines is None:
        return None
    found = {line.split(b" ", 6)[6]: line for line in lines}
    found.pop(b"", None)
    return found


def _lines(recorded: bytes) -> Optional[List[bytes]]:
    head, _, body = recorded.partition(b"\n")
    lines = body.split(b"\0")[:-1]
    if head != b"%s %s %d" % (_VERSION, hashlib.sha256(body).hexdigest().encode(), len(lines)):
        return None
    return lines


def _parse(recorded: bytes) -> Optional[Dict[bytes, Tuple[bytes, bytes, bytes, bytes]]]:
    lines = _lines(recorded)
    if lines is None:
        return None
    result = {}
    for line in lines:
        mode, size, mtime, owner, content, xattrs, path = line.split(b" ", 6)
        result[path] = (b"%s %s %s" % (mode, size, mtime), owner, content, xattrs)
    return result


def _walk(top: bytes, closed: "set[bytes]") -> Iterator[Tuple[bytes, bytes, os.stat_result]]:
    """(path below `top`, path, status) of a tree and all in it; links are not followed, nor directories of `closed` entered."""
    yield b"", top, os.lstat(top)
    waiting: List[bytes] = [b""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(top, below)) as entries:
                found = [(entry.name, entry.path, entry.stat(follow_symlinks=False)) for entry in entries]
        except PermissionError:
            if not below:
                raise
            continue  # it is `?` for whoever makes an inventory
        for name, path, status in found:
            relative = os.path.join(below, name)
            yield relative, path, status
            if stat.S_ISDIR(status.st_mode) and relative not in closed:
                waiting.append(relative)


def _outside(found: os.stat_result) -> bytes:
    size = 0
    if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
        size = found.st_size
    elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        size = found.st_rdev
    # Whole seconds: some file systems keep no more, though they show more until the next mount.
    return b"%o %d %d" % (found.st_mode, size, found.st_mtime_ns // 10**9)


def _owner(found: os.stat_result, owners: bool) -> bytes:
    return b"%d:%d" % (found.st_uid, found.st_gid) if owners else _NONE


def _content(path: bytes, found: os.stat_result, known: Dict[Tuple[int, int], bytes]) -> bytes:
    """`known`: of files that were read already, by device and inode."""
    if stat.S_ISLNK(found.st_mode):
        return hashlib.sha256(os.readlink(path)).hexdigest().encode()
    if stat.S_ISDIR(found.st_mode):
        return _NONE if os.access(path, os.R_OK | os.X_OK) else UNREADABLE
    if not stat.S_ISREG(found.st_mode):
        return _NONE
    key = (found.st_dev, found.st_ino)
    if key not in known:
        try:
            known[key] = _sha256(path)
        except PermissionError:
            known[key] = UNREADABLE
    return known[key]


def _sha256(path: bytes) -> bytes:
    digest = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as content:
        for data in holes.content(content.fileno(), os.fstat(content.fileno()).st_size):
            digest.update(data)
    return digest.hexdigest().encode()


def _xattrs(path: bytes, found: os.stat_result) -> bytes:
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return _NONE
    try:
        names = sorted(name for name in os.listxattr(path) if name.startswith(_XATTRS))
        values = [(name, os.getxattr(path, name)) for name in names]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return _NONE
        if isinstance(error, PermissionError):
            return UNREADABLE
        raise
    return hashlib.sha256(repr(values).encode()).hexdigest().encode() if values else _NONE
