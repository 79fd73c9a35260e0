"""Watches what the commands of a build take, and ends the build where that is more than somebody has said it may take.

By looking, not by rlimits: a build sees its rlimits, and what it sees is the same whatever the bounds are. So a build that
takes much for less than `TICK` may get away with it; where there is a control group (`control_group`), processes and memory have
these bounds there as well, to the byte. Bounds are of the machine, not of the build: no layer depends on them.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, NoReturn, Optional, Sequence, Tuple

from opam_sandbox.errors import LimitReached
from opam_sandbox.sandbox import open_in_root

# Seconds between two looks.
TICK = 0.25
# How much rarer than it takes the disk is looked at: to walk a compiler's files takes a while.
_RARELY = 20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SHOWN, _LONGEST = 12, 200

TIME, MEMORY, PROCESSES, DISK = "time", "memory", "processes", "disk"


class Bounds(NamedTuple):
    """What a build may take, 0: as much as it likes. seconds: of all its commands together, from when the first one starts.
    memory, disk: bytes. processes: with threads."""

    seconds: float = 0
    memory: int = 0
    processes: int = 0
    disk: int = 0


class _Process(NamedTuple):
    """parent: its process id; memory: bytes that nobody shares with it."""

    parent: int
    threads: int
    memory: int


class Watch:
    """`names`: by limit, what sets it, for messages."""

    def __init__(self, bounds: Bounds, names: Dict[str, str]) -> None:
        self.bounds = bounds
        self._names = names
        self._started: Optional[float] = None
        self._next = self._next_disk = 0.0

    def begin(self) -> None:
        """A command starts."""
        if self._started is None:
            self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the first command started."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    def look(self, written: Sequence[Path], memories: Sequence[Path] = (), last: bool = False) -> None:
        """Raise LimitReached where a bound is passed. Between two looks, a moment passes.

        written: directories that the commands write to; memories: file systems of theirs alone. last: the command has ended, and
        this counts whenever the last look was."""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + TICK
        if self.bounds.seconds and self.seconds > self.bounds.seconds:
            self.raise_reached(TIME)
        if (self.bounds.memory or self.bounds.processes) and not last:
            found = _below()
            if self.bounds.processes and sum(one.threads for one in found.values()) > self.bounds.processes:
                self.raise_reached(PROCESSES)
            if self.bounds.memory and sum(one.memory for one in found.values()) > self.bounds.memory:
                self.raise_reached(MEMORY)
        if self.bounds.disk and (last or now >= self._next_disk):
            taken = sum(_size(directory) for directory in written) + sum(_used(place) for place in memories)
            if taken > self.bounds.disk:
                self.raise_reached(DISK)
            self._next_disk = now + _RARELY * (time.monotonic() - now)

    def raise_reached(self, limit: str) -> NoReturn:
        """Raise LimitReached, with what runs now."""
        value = dict(zip((TIME, MEMORY, PROCESSES, DISK), self.bounds))[limit]
        running = command_lines()
        what = {
            TIME: f"it took longer than {value:g} seconds",
            MEMORY: f"it took more than {_bytes(int(value))} of memory",
            PROCESSES: f"it had more than {value:g} processes and threads",
            DISK: f"it wrote more than {_bytes(int(value))} of files",
        }[limit]
        ran = f" `{running[0]}` ran then." if running else ""
        text = f"{what}, which is what {self._names[limit]} lets a build have.{ran}"
        raise LimitReached(text, limit, value, running)


def command_lines() -> List[str]:
    """What runs below this process, the first that a command has started in front: of opam, what it runs for the package."""
    depths = _depths(_all(), _own())
    # This process's child is process 1 of the command's namespace; below it is the command, and below that what it has started.
    ordered = sorted(
        (pid for pid, depth in depths.items() if depth > 1), key=lambda pid: (depths[pid] != 3, depths[pid], pid)
    )
    return [line for line in map(_command_line, ordered[: 2 * _SHOWN]) if line][:_SHOWN]


def _command_line(pid: int) -> str:
    with suppress(OSError):
        data = Path("/proc", str(pid), "cmdline").read_bytes()[:4096]
        text = " ".join(part.decode(errors="replace") for part in data.split(b"\0")).strip()
        return "".join(char if char.isprintable() else "?" for char in text)[:_LONGEST]
    return ""


def _own() -> int:
    """This process's number in /proc, which may be of a PID namespace further up."""
    try:
        return int(os.readlink("/proc/self"))
    except (OSError, ValueError):
        return os.getpid()


def _all() -> Dict[int, _Process]:
    found: Dict[int, _Process] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as status, open(f"/proc/{name}/statm", "rb") as statm:
                fields, pages = status.read().rpartition(b")")[2].split(), statm.read().split()
            found[int(name)] = _Process(int(fields[1]), int(fields[17]), (int(pages[1]) - int(pages[2])) * _PAGE)
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
    return found


def _depths(found: Dict[int, _Process], top: int) -> Dict[int, int]:
    """How far below `top` its descendants are, itself (0) included."""
    children: Dict[int, List[int]] = {}
    for pid, one in found.items():
        children.setdefault(one.parent, []).append(pid)
    depths, waiting = {top: 0}, [top]
    while waiting:
        pid = waiting.pop()
        for child in children.get(pid, ()):
            if child not in depths:
                depths[child] = depths[pid] + 1
                waiting.append(child)
    return depths


def _below() -> Dict[int, _Process]:
    """All that commands of this process run; not the process that mounts their view, which is this one's."""
    found = _all()
    return {pid: found[pid] for pid, depth in _depths(found, _own()).items() if depth > 1}


def _used(place: Path) -> int:
    with suppress(OSError):
        found = os.statvfs(place)
        return (found.f_blocks - found.f_bfree) * found.f_frsize
    return 0


def _size(directory: Path) -> int:
    """Bytes that files below a directory take on disk, a file of several names once."""
    return sum(dict(_files(directory)).values())


def _files(directory: Path) -> Iterator[Tuple[Tuple[int, int], int]]:
    """(device and inode, bytes) of what lies there, which somebody writes: no name is followed that was made there."""
    waiting = [""]
    with suppress(OSError), open_in_root.directory(directory) as top:
        while waiting:
            name = waiting.pop()
            try:
                opened = open_in_root.open_at(top, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue  # it was removed meanwhile
            try:
                with suppress(OSError), os.scandir(opened) as entries:
                    for entry in entries:
                        found = entry.stat(follow_symlinks=False)
                        yield (found.st_dev, found.st_ino), found.st_blocks * 512
                        if stat.S_ISDIR(found.st_mode):
                            waiting.append(f"{name}/{entry.name}")
            finally:
                os.close(opened)


def _bytes(number: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << power and number % (1 << power) == 0:
            return f"{number >> power} {unit}"
    return f"{number} bytes"
