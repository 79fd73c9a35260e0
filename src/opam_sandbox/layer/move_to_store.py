"""Moves what was captured into the store, where the packages above would otherwise unpack it again from its blob.

A moved tree is what `unpack` makes of the layer: the same names, contents, owners, modes, times and marks.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import List, Sequence

from opam_sandbox.layer.capture import Taken
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.walk_tree import LEFT_OUT_XATTRS
from opam_sandbox.sandbox import layer_paths, open_in_root


def move_to_store(store: Store, diff_id: str, tree: Path, taken: Sequence[Taken], title: str = "a layer") -> bool:
    """Move the paths of `tree` that were captured as the layer `diff_id` (hex) into the store; says whether it did.

    Nothing is done where the store is on another file system or mount, or the layer holds what only root can make.
    """
    rootless = store.rootless
    if not store.is_beside(tree):
        return False
    if rootless and any(_is_device(entry.stat.st_mode) and entry.stat.st_rdev for entry in taken):
        return False

    def fill(target: Path) -> None:
        # Paths of a few bytes: what is moved may have a name almost as long as names can be.
        with open_in_root.directory(tree) as old, open_in_root.directory(target) as new:
            _move(b"/proc/self/fd/%d" % old, b"/proc/self/fd/%d" % new, taken, rootless)

    try:
        store.put(diff_id, fill, title)
    except OSError as error:
        # Two mounts of one file system have the same device: the first rename says it, and then nothing has moved.
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _move(tree: bytes, target: bytes, taken: Sequence[Taken], rootless: bool) -> None:
    directories: List[Taken] = []
    for entry in taken:
        source, path = os.path.join(tree, entry.path), os.path.join(target, entry.path)
        if stat.S_ISDIR(entry.stat.st_mode):
            os.mkdir(path, 0o700)
            _copy_xattrs(source, path)
            if entry.opaque:
                os.setxattr(path, layer_paths.opaque_attribute(rootless), b"y")
            if not rootless:
                os.chown(path, entry.uid, entry.gid)
            directories.append(entry)
        else:
            os.rename(source, path)
            if _is_device(entry.stat.st_mode) and not entry.stat.st_rdev:
                continue  # a whiteout: it has neither owner nor time
            _drop_xattrs(path)
        _set_metadata(path, entry, rootless)
    # Last, since making an entry changes its directory's time.
    for entry in reversed(directories):
        os.utime(os.path.join(target, entry.path), (entry.mtime, entry.mtime))


def _is_device(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _set_metadata(path: bytes, entry: Taken, rootless: bool) -> None:
    if not rootless and (entry.uid, entry.gid) != (entry.stat.st_uid, entry.stat.st_gid):
        # A change of the owner takes setuid, setgid and file capabilities away.
        xattrs = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in _xattr_names(path)]
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        for name, value in xattrs:
            os.setxattr(path, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(entry.stat.st_mode):
        os.chmod(path, stat.S_IMODE(entry.stat.st_mode))
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


def _copy_xattrs(source: bytes, path: bytes) -> None:
    for name in _xattr_names(source):
        if not name.startswith(LEFT_OUT_XATTRS):
            os.setxattr(path, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)


def _drop_xattrs(path: bytes) -> None:
    for name in _xattr_names(path):
        if name.startswith(LEFT_OUT_XATTRS):
            os.removexattr(path, name, follow_symlinks=False)


def _xattr_names(path: bytes) -> List[bytes]:
    try:
        return [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)]
    except OSError:
        return []
