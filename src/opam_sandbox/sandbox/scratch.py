"""Directories that are gone when their process ends: removed by the process itself or, if it was killed, by the next one.

Each has a record, a file in a directory that is kept: device, inode and path of what is to be removed. The process holds
a lock (flock) of the record as long as it lives. A record that nobody holds belongs to a dead process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, List, Tuple

from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox.user_namespace import remove_tree_of_subordinates

# Device and inode of a directory that is about to be made.
_TO_BE = (0, 0)

# What file systems say that have no locks.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Scratch:
    """A new directory `path`, with a record in the directory `records` (made if it is not there).

    Processes that are forked while it is there hold the record as well. Raises OSError, such as FileExistsError.
    """

    def __init__(self, records: Path, path: Path, mode: int = 0o755) -> None:
        records.mkdir(parents=True, exist_ok=True)
        sweep(records)
        self.path = path.absolute()
        self._record = records / os.urandom(8).hex()
        self._held = _lock_new(self._record)
        try:
            # Before there is a directory that nobody would know of.
            self._write(*_TO_BE)
            self.path.mkdir(mode=mode, parents=True)
        except OSError:
            self._end()
            raise
        try:
            os.chmod(self.path, mode)  # whatever the umask is
            found = os.lstat(self.path)
            self._write(found.st_dev, found.st_ino)
        except OSError:
            remove_tree(self.path)
            self._end()
            raise

    def _write(self, device: int, inode: int) -> None:
        # In one call, and the second time no less than the first time: there is no half of a record.
        os.pwrite(self._held, b"%d %d " % (device, inode) + os.fsencode(self.path), 0)

    def _end(self) -> None:
        self._record.unlink(missing_ok=True)
        os.close(self._held)

    def remove(self) -> None:
        """Remove the directory, wherever it was not renamed to, and then the record. Raises OSError."""
        remove_tree(self.path)
        self._end()


@contextmanager
def scratch(records: Path, path: Path, mode: int = 0o755) -> Iterator[Path]:
    """A `Scratch` as long as the context. A rename may take its directory away meanwhile."""
    held = Scratch(records, path, mode)
    try:
        yield held.path
    finally:
        held.remove()


@contextmanager
def temporary(parent: str = "") -> Iterator[Path]:
    """A new directory for this user alone, below `parent` (that for temporary files), as long as the context. Raises OSError."""
    import tempfile  # a build needs none, and would wait for it

    top = Path(parent or tempfile.gettempdir())
    name = f"opam-oci-{os.geteuid()}"
    records = top / name
    records.mkdir(mode=0o700, exist_ok=True)
    found = os.lstat(records)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        # Another user has taken the name: what a kill leaves behind is not swept then.
        with tempfile.TemporaryDirectory(prefix=name, dir=top) as directory:
            yield Path(directory)
        return
    with scratch(records, top / f"{name}-{os.urandom(8).hex()}", mode=0o700) as path:
        yield path


def sweep(records: Path) -> None:
    """Remove the directories of dead processes that have a record here. What cannot be removed stays for the next time.

    A user's may hold files of his subordinate ids, which he can remove in a user namespace only. Inside of a namespace of
    `run_isolated` that cannot be had, outside it can.
    """
    for record in records.iterdir():
        try:
            held = os.open(record, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except IsADirectoryError:
            # Nobody makes any: a repair of the file system has given the name to something else.
            with suppress(OSError):
                remove_tree(record)
            continue
        except OSError:
            continue  # swept by another one
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(held, record):
                _remove_recorded(os.read(held, 1 << 16))
                record.unlink()
        except OSError:
            continue  # its owner is alive, or has files of ids that are not this process's
        finally:
            os.close(held)


def recorded(records: Path) -> List[Tuple[Path, bool]]:
    """(directory, whether its process is alive) of each record. Raises OSError."""
    found = []
    for record in records.iterdir():
        try:
            held = os.open(record, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # as for `sweep`
        try:
            path = Path(os.fsdecode([*os.read(held, 1 << 16).split(b" ", 2), b"", b""][2]))
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append((path, False))
            except OSError:
                found.append((path, True))
        finally:
            os.close(held)
    return found


def _lock_new(record: Path) -> int:
    """The descriptor of a new file that this process has locked."""
    while True:
        held = os.open(record, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:  # nothing is swept there
                raise
            return held
        if _is_named(held, record):
            return held
        os.close(held)  # somebody swept it between the two calls


def _is_named(held: int, record: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), os.stat(record))
    except FileNotFoundError:
        return False


def _remove_recorded(text: bytes) -> None:
    """Remove the directory of a record, unless another one has its place by now."""
    device, inode, path = [*text.split(b" ", 2), b"", b""][:3]
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return  # ValueError: zeros, as a power loss leaves them
    if (device, inode) == (b"%d" % _TO_BE[0], b"%d" % _TO_BE[1]):
        with suppress(OSError):
            os.rmdir(path)  # if there is something in it, it is another one
    elif stat.S_ISDIR(found.st_mode) and (b"%d" % found.st_dev, b"%d" % found.st_ino) == (device, inode):
        try:
            remove_tree(Path(os.fsdecode(path)))
        except PermissionError:
            if os.geteuid() == 0:
                raise
            remove_tree_of_subordinates(Path(os.fsdecode(path)))
