"""The locks of the store: one process at a time makes or takes away the entry of a name.

A lock file goes when its entry is taken away, so that the store does not fill with them: who got the lock of a file that has lost
its name asks for that of the file which has it now.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.layer import store_disk, store_use

HOLDS, REMEDY = "unpacked layers", "set Pants' [GLOBAL].named_caches_dir to a directory of another file system"


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[str]:
    """Hold the lock file `path` (made if it is not there) alone. Yields the path, which may be unlinked as the last act of the
    context; "" where somebody else holds it and `wait` is not set. Raises ToolError."""
    held = -1
    try:
        while held < 0:
            held = _open(path)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield ""
                return
            except OSError as error:
                raise ToolError(store_disk.no_locks(path, error)) from None
            if not store_use.is_named(os.fstat(held), os.fspath(path)):
                os.close(held)
                held = -1
        yield os.fspath(path)
    finally:
        if held >= 0:
            os.close(held)


def _open(path: Path) -> int:
    # flock(2) goes with its process, however that ends: a lock file without an owner locks nothing.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with machine_errors.at(path.parent, HOLDS, REMEDY):
        try:
            return os.open(path, flags, 0o600)
        except IsADirectoryError:
            remove_tree(path)  # a repair of the file system has given the name to something else
            return os.open(path, flags, 0o600)
