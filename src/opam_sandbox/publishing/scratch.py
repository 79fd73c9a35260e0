"""Directories that live as long as a container: removed whoever is killed, at the latest by the next container."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path
from typing import Tuple

from filelock import FileLock, Timeout

from opam_sandbox.store import remove_tree


class Scratch:
    """A new directory below `parent`. A lock beside it is held while one of those who use it is alive."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        self._parent = parent
        name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.path = parent / name
        self._lock_path = parent / f"{name}.lock"
        # In this order, and swept in the same: a directory without a lock file is one that is only just made.
        self._lock = FileLock(self._lock_path)
        self._lock.acquire(blocking=False)
        self.path.mkdir(mode=0o711)

    def remove(self) -> None:
        for _ in range(100):
            try:
                remove_tree(self.path)
                break
            except OSError:
                time.sleep(0.05)  # the last of the container's processes are on their way out
        self._lock_path.unlink(missing_ok=True)

    def keep(self) -> Tuple[int, int]:
        """Fork a process that removes the directory when all copies of a pipe's end are closed, by whatever end of their
        owners. Returns its pid and that end."""
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid:
            os.close(read_end)
            return pid, write_end
        try:
            os.setsid()  # signals to the group are not for it
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)
            os.close(write_end)
            # Whoever reads this process's output is not to wait for it.
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            while os.read(read_end, 1):
                pass
            self.remove()
        finally:
            os._exit(0)


def sweep(parent: Path) -> None:
    """Remove what processes left that were killed together with their keepers."""
    for path in parent.glob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except (Timeout, OSError):
            continue
        try:
            if path.exists() and path.with_suffix("").is_dir():
                remove_tree(path.with_suffix(""))
                path.unlink(missing_ok=True)
        except OSError:
            pass  # somebody else's ids: removed by a container of the same user namespace
        finally:
            lock.release()
