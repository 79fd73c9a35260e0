"""Shows a log while it grows: who ends this process, as Pants does after a time-out, has seen what was printed until then.

What is shown is bounded, as Pants holds it in memory: the log's beginning while it is written, and at the end the log's end.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import contextmanager, suppress
from typing import Iterator, NoReturn, Optional

# Of the beginning and of the end, in bytes.
MOST = 4 << 20
# Seconds between two looks.
_TICK = 0.1
_CHUNK = 1 << 16


@contextmanager
def shown(path: str, most: int = MOST) -> Iterator[None]:
    """Have what is written to the file, which may not be there yet, appear on standard output within a moment.

    Of more than 2 * `most` bytes, what is between beginning and end is left out, and a line says so. By a process of its own: the
    caller may fork, and its end, however it comes, is this one's."""
    ended, alive = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(alive)
        _show(path, most, ended)
    os.close(ended)
    try:
        yield
    finally:
        os.close(alive)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _show(path: str, most: int, ended: int) -> NoReturn:
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _Shown(path, most).follow(ended)
    except OSError:
        pass  # nobody reads any more
    finally:
        os._exit(0)


class _Shown:
    def __init__(self, path: str, most: int) -> None:
        self._path = path
        self._most = most
        self._log: Optional[int] = None
        self._at = 0

    def follow(self, ended: int) -> None:
        """Until nobody has the other end of that pipe."""
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        while not poll.poll(int(_TICK * 1000)):
            self._copy(self._most)
        self._copy(self._most)
        if self._log is None:
            return
        size = os.fstat(self._log).st_size
        left_out = size - self._most - self._at
        if left_out > 0:
            _write(f"\n[{left_out} bytes of the log are left out here]\n".encode())
            self._at += left_out
        self._copy(size)

    def _copy(self, until: int) -> None:
        """What is new, up to that place."""
        if self._log is None:
            with suppress(FileNotFoundError):
                self._log = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        while self._log is not None and self._at < until:
            data = os.pread(self._log, min(_CHUNK, until - self._at), self._at)
            if not data:
                return
            _write(data)
            self._at += len(data)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
