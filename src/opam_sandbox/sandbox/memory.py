"""Scratch files in memory: how much of the machine's memory a build's may take, and the file system that holds them.

A build writes and deletes many files that no layer holds. In memory (tmpfs) that costs a fraction of what it costs on disk; ext4
without a journal, for one, is slow to make files where many were deleted within the last minute.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Iterator, Optional, Sequence

from opam_sandbox.sandbox import syscalls

# With less than this for itself, a build is not even tried in memory: a compiler's takes 700 MB.
LEAST = 1 << 30

# What programs call ENOSPC in the languages C and C.UTF-8.
_NO_ROOM = b"No space left on device"


def room_for_one(claimed: int = 0) -> int:
    """The `room` of a build on this machine, with the cores that this process may use."""
    return room(len(os.sched_getaffinity(0)), claimed)


def mount(directory: Path, size: int, flags: int = 0, options: str = "mode=755") -> None:
    """Have `directory` lie in up to `size` bytes of memory; `flags` as mount(2) has them, `options` as tmpfs. Raises OSError."""
    syscalls.mount("tmpfs", directory, "tmpfs", flags, f"{options},size={size}")


def ran_out(log: Path) -> bool:
    """Whether a program that wrote into `log` found no room on a file system."""
    with open(log, "rb") as lines:
        return any(_NO_ROOM in line for line in lines)


def room(cores: int, claimed: int = 0, root: Path = Path("/")) -> int:
    """Bytes that one build's scratch files may take, 0 if there is too little memory.

    Half of what is free is left for the programs. As many builds as there are cores share the other half, whether they run or
    not; where more run, the later ones get what the others have not claimed. claimed: bytes that other builds may take, whether
    they have taken them or not. `root`: where /proc and /sys are found.
    """
    half = available(root) // 2
    share = min(half // max(1, cores), half - claimed)
    return share if share >= LEAST else 0


def available(root: Path = Path("/")) -> int:
    """Bytes of memory that this process's machine and control groups have free; 0 if that is not to be found out."""
    free = _mem_available(root / "proc/meminfo")
    if free is None:
        return 0
    return max(0, min([free, *_left_in_groups(root)]))


def _mem_available(path: Path) -> Optional[int]:
    try:
        for line in path.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group above this process (version 2, then 1) that has a limit has left."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        limits: Sequence[str]
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top, limits, usage = root / "sys/fs/cgroup", ("memory.max", "memory.high"), "memory.current"
        elif "memory" in controllers.split(","):
            top, limits, usage = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes"
        else:
            continue
        # In a container the path may be the host's, or lead out of what is mounted, which is the container's own group.
        group = Path(os.path.normpath(f"{top}/{path}"))
        if top not in group.parents:
            group = top
        for directory in (group, *group.parents):
            yield from _left(directory, limits, usage)
            if directory == top:
                break


def _left(directory: Path, limits: Sequence[str], usage: str) -> Iterator[int]:
    """What a group has left to each of its limits."""
    try:
        used = int((directory / usage).read_text())
        stat = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return

    def of(*names: str) -> int:
        return next((int(stat[name]) for name in names if name in stat), 0)

    # The group's cache of files is given back when memory is short, but for what tmpfs holds; so are the kernel's of names.
    cache = max(0, of("total_cache", "file") - of("total_shmem", "shmem")) + of("slab_reclaimable")
    # Of the groups above, a container sees no more than the limit that they set together.
    most = [of("hierarchical_memory_limit")] if "hierarchical_memory_limit" in stat else []
    for name in limits:
        with suppress(OSError, ValueError):
            most.append(int((directory / name).read_text()))  # "max" is no number
    for limit in most:
        yield limit - used + cache
