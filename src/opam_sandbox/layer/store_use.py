"""Who uses an entry of the store, and when it was used last.

The file `used` of an entry is locked (flock, shared) by each process that uses the entry, as long as that process lives; who
would take the entry away locks it alone. The file goes with the entry when that is renamed, so who has locked it looks whether it
still has its name. Its time says when the entry was last used, to ten minutes: most uses read it and write nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, List, Optional

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.layer import store_disk

_NAME = "used"
# For so long, in seconds, another use is not recorded.
_SAME = 600

# Of so many entries on, a process may need more open files than some callers let it have.
_MANY = 64

# `hold`: there is nothing that can be held.
NOTHING = -1

_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO)


def hold(entry: Path) -> int:
    """Use an entry: nobody takes it away as long as the descriptor that this returns is open, here or in a child.

    `NOTHING` where there is no such entry, or its `used` is no file. Raises ToolError where the disk has no locks, OSError.
    """
    path = f"{entry}/{_NAME}"
    while True:
        held = _open(path, os.O_RDONLY | os.O_CREAT)
        if held == NOTHING:
            return held
        try:
            # Who holds it alone does so for one rename.
            _lock(held, path, fcntl.LOCK_SH)
            found = os.fstat(held)
            if is_named(found, path):
                _note(held, found)
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)


def hold_alone(entry: Path, make: bool = False) -> int:
    """A descriptor: as long as it is open, nobody else begins to use the entry. `NOTHING` where nobody does, as there is no file
    `used` to be locked. make: have it, as else somebody may begin to use the entry.

    Raises BlockingIOError, at once, while somebody uses it; ToolError where the disk has no locks; OSError.
    """
    path, create = f"{entry}/{_NAME}", os.O_CREAT if make else 0
    try:
        held = _open(path, os.O_RDWR | create)  # disks of other machines lock nothing alone that is open for reading
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        held = _open(path, os.O_RDONLY | create)
    if held == NOTHING:
        return held
    try:
        _lock(held, path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_named(os.fstat(held), path):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)  # somebody else has just taken it
    except BaseException:
        os.close(held)
        raise
    return held


def is_used_by(held: int, entry: Path) -> bool:
    """Whether a descriptor of `hold` is of the entry that has the name now. Raises OSError."""
    return is_named(os.fstat(held), f"{entry}/{_NAME}")


def last_used(entry: Path) -> float:
    """Seconds of the epoch, to ten minutes; of an entry that nobody has used, when it was made. Raises OSError."""
    try:
        return os.lstat(f"{entry}/{_NAME}").st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return os.lstat(entry).st_mtime


class Held:
    """The entries that this process uses: nobody takes them away as long as it lives, or until `let_go`."""

    def __init__(self) -> None:
        # Descriptors: by name, of entries that are held, and of those that have been taken away since.
        self._held: Dict[str, int] = {}
        self._former: List[int] = []

    def use(self, entry: Path, look: Callable[[Path], Optional[str]]) -> Optional[str]:
        """Hold an entry from now on if it is there and `look` finds it whole. Returns what is wrong with it: "" nothing, None
        that it is not there. Raises ToolError, OSError."""
        known = self._held.get(entry.name)
        if known is not None and is_used_by(known, entry):
            return look(entry)
        held = hold(entry)
        if held == NOTHING:
            return "who uses it cannot be recorded" if os.path.lexists(entry) else None
        problem = look(entry)
        if problem == "":
            self.keep(entry.name, held)
        else:
            os.close(held)
        return problem

    def keep(self, name: str, held: int) -> None:
        """Hold the entry of that name by a descriptor of `hold`."""
        self.forget(name)  # somebody found it damaged and made it again: it may be mounted here
        self._held[name] = held
        if len(self._held) == _MANY:
            machine_errors.allow_usual_files()

    def forget(self, name: str) -> None:
        """The name will be another entry's. The one that is held may be mounted here, and stays held."""
        if name in self._held:
            self._former.append(self._held.pop(name))

    def let_go(self) -> None:
        """Hold nothing any more. Only where nothing of the store is mounted."""
        for held in (*self._held.values(), *self._former):
            os.close(held)
        self._held.clear()
        self._former.clear()


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno in _DAMAGE:
            return NOTHING
        raise


def _lock(held: int, path: str, kind: int) -> None:
    try:
        fcntl.flock(held, kind)
    except BlockingIOError:
        raise
    except OSError as error:
        raise ToolError(store_disk.no_locks(Path(path), error)) from None


def is_named(found: os.stat_result, path: str) -> bool:
    """Whether a path is the file that was opened, of which this is the status. Raises OSError."""
    try:
        return os.path.samestat(found, os.stat(path, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _note(held: int, found: os.stat_result) -> None:
    if abs(time.time() - found.st_mtime) > _SAME:
        with suppress(OSError):  # such as a disk that is read-only
            os.utime(held)
