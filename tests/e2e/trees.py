"""What a directory tree is, for comparison: every path with its kind, mode, owner, time, content and links."""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, Sequence, Tuple

_libc = ctypes.CDLL(None, use_errno=True)


def fingerprint(root: Path, skip: Sequence[str] = ()) -> Dict[str, Tuple[object, ...]]:
    """Path -> what it is; of hard links each says the first of its names. Contents by sha256."""
    found: Dict[str, Tuple[object, ...]] = {}
    first: Dict[Tuple[int, int], str] = {}
    contents: Dict[Tuple[int, int], str] = {}
    top = os.fsencode(root)
    for directory, names, files in os.walk(top):
        names.sort()
        for name in sorted([*names, *files]):
            full = os.path.join(directory, name)
            path = os.fsdecode(os.path.relpath(full, top))
            if path in skip:
                continue
            status = os.lstat(full)
            inode = (status.st_dev, status.st_ino)
            kind = stat.S_IFMT(status.st_mode)
            extra: object = ""
            if stat.S_ISLNK(status.st_mode):
                extra = os.readlink(full)
            elif stat.S_ISREG(status.st_mode):
                if inode not in contents:
                    with open(full, "rb") as file:
                        contents[inode] = hashlib.sha256(file.read()).hexdigest()
                extra = (contents[inode], status.st_size)
            same = first.setdefault(inode, path) if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode) else ""
            found[path] = (kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, extra, same)
            if not stat.S_ISDIR(status.st_mode):
                found[path] += (int(status.st_mtime),)
    return found


@contextmanager
def overlay(layers: Sequence[Path], scratch: Path) -> Iterator[Path]:
    """The kernel's own merge of unpacked layers (bottom first), read-only."""
    target = scratch / "merged"
    target.mkdir()
    names = []
    for number, layer in enumerate(layers):
        (scratch / f"{number}").symlink_to(layer)
        names.append(f"{number}")
    here = os.getcwd()
    os.chdir(scratch)
    try:
        options = "lowerdir=" + ":".join(reversed(names))
        if _libc.mount(b"overlay", os.fsencode(target), b"overlay", ctypes.c_ulong(1), options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "overlay does not mount")
    finally:
        os.chdir(here)
    try:
        yield target
    finally:
        _libc.umount2(os.fsencode(target), ctypes.c_int(2))
