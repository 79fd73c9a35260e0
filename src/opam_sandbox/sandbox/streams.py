"""The streams of a command that a person has asked for: as those of this process, which are never handed over themselves.

Where they are a terminal, the command has one of its own, which this one is shown on. Else there are pipes.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import tty
from contextlib import contextmanager, suppress
from typing import Dict, Iterator, NamedTuple, Optional, Tuple

# Milliseconds after which the terminal's size is looked at again: who runs below Pants' daemon hears of no change.
_PATIENCE = 300


class Streams(NamedTuple):
    """into, out, log: the command's ends. reads: by the end to read, where it goes to, of this process's. writes: the other end
    of `into`. Where it is a terminal, all are one."""

    into: int
    out: int
    log: int
    reads: Dict[int, int]
    writes: int

    @property
    def is_terminal(self) -> bool:
        """Whether the command has a terminal."""
        return self.into == self.out

    def start(self) -> None:
        """The command has its ends: this process closes them, to hear when nobody has them any more."""
        for descriptor in {self.into, self.out, self.log}:
            os.close(descriptor)

    def copy(self, child: int) -> None:
        """Copy until the child, which has the command's ends, has ended, and all that was printed is out. Raises OSError."""
        handle = _handle(child)
        left, waiting = dict(self.reads), b""
        source: Optional[int] = 0
        size: Tuple[int, int] = (0, 0)
        ended = False
        while left and not (ended and not _readable(left)):
            if self.is_terminal:
                size = self._resized(size)
            poll = select.poll()
            for descriptor in left:
                poll.register(descriptor, select.POLLIN)
            if source is not None and not waiting:
                poll.register(source, select.POLLIN)
            if waiting:
                poll.register(self.writes, select.POLLOUT | (select.POLLIN if self.writes in left else 0))
            if handle is not None and not ended:
                poll.register(handle, select.POLLIN)
            for descriptor, event in poll.poll(_PATIENCE):
                if descriptor == handle:
                    ended = True
                elif descriptor in left and event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    data = _read(descriptor)
                    if data:
                        _write(left[descriptor], data)
                    elif data is not None:
                        del left[descriptor]
                elif descriptor == source:
                    waiting = _read(0) or b""
                    if not waiting:
                        source = None
                        self._no_more_input()
                if waiting and descriptor == self.writes and event & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                    waiting = waiting[_write_some(self.writes, waiting) :]
        if handle is not None:
            os.close(handle)

    def _no_more_input(self) -> None:
        if self.is_terminal:
            _write_some(self.writes, b"\x04")
        else:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self.writes)  # the number stays this process's to close
            os.close(null)

    def _resized(self, before: Tuple[int, int]) -> Tuple[int, int]:
        with suppress(OSError):
            now = os.get_terminal_size(0)
            if now != before:
                fcntl.ioctl(self.writes, termios.TIOCSWINSZ, struct.pack("HHHH", now.lines, now.columns, 0, 0))
            return now
        return before


@contextmanager
def of_person() -> Iterator[Streams]:
    """The command's streams. A terminal passes on each key as long as the context. Raises OSError."""
    if all(os.isatty(number) for number in (0, 1, 2)):
        master, slave = os.openpty()
        before = termios.tcgetattr(0)
        termios.tcsetattr(slave, termios.TCSANOW, before)
        os.set_blocking(master, False)
        tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead stays
        try:
            yield Streams(slave, slave, slave, {master: 1}, master)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
            os.close(master)
        return
    into, writes = os.pipe()
    out_read, out = os.pipe()
    log_read, log = os.pipe()
    os.set_blocking(writes, False)
    try:
        yield Streams(into, out, log, {out_read: 1, log_read: 2}, writes)
    finally:
        for descriptor in (writes, out_read, log_read):
            os.close(descriptor)


def _handle(child: int) -> Optional[int]:
    try:
        return os.pidfd_open(child)
    except (AttributeError, OSError):
        return None  # before Linux 5.3: until nobody has the ends


def _readable(left: Dict[int, int]) -> bool:
    poll = select.poll()
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


def _read(descriptor: int) -> Optional[bytes]:
    """What is there; none at the end, None if it only seemed so."""
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return None
    except OSError:
        return b""  # a terminal whose other end is closed


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _write_some(descriptor: int, data: bytes) -> int:
    """How many bytes are done with: all where nobody reads any more."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)
