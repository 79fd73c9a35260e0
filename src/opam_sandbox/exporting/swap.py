"""Puts a directory in the place of another one, in one step where the file system can."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from opam_sandbox.files import remove_tree

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def put(new: Path, place: Path) -> None:
    """`new` becomes `place`, and what was there is removed. Until then it is as it was, and so it is when this fails.

    Both are in one directory. Raises OSError.
    """
    if not os.path.lexists(place):
        os.rename(new, place)
        return
    old = new
    if not _exchange(new, place):
        # As a kill between these two is rare, and no file is lost by it: the next export removes what is beside.
        old = new.with_name(f"{new.name}.old")
        os.rename(place, old)
        try:
            os.rename(new, place)
        except OSError:
            os.rename(old, place)
            raise
    remove_tree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Whether the two have each other's name now. False where the kernel, or the file system, cannot. Raises OSError."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # glibc 2.28
    except (OSError, AttributeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))
