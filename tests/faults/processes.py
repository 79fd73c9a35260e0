"""Processes of the sandbox tool, found from outside, and what is left of them when they have been killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Dict, List, Set


def _read(pid: int, name: str) -> bytes:
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:
        return b""


def _parents() -> Dict[int, int]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            # The name of the program, in parentheses, may hold anything.
            fields = _read(int(name), "stat").rpartition(b")")[2].split()
            if len(fields) > 1 and fields[0] != b"Z":
                found[int(name)] = int(fields[1])
    return found


def is_tool(pid: int) -> bool:
    """Whether a process is the sandbox tool's own, and none of those that it starts."""
    return b"\0__tool\0" in _read(pid, "cmdline")


def tool_processes(sandboxes: Path) -> List[int]:
    """The tool's processes whose sandboxes are below a directory, and the programs that they have started themselves.

    What those start in turn is left out: a build may well go on without one of its own processes.
    """
    parents = _parents()
    top = os.fspath(sandboxes.resolve()) + "/"

    def is_ours(pid: int) -> bool:
        try:
            return is_tool(pid) and os.readlink(f"/proc/{pid}/cwd").startswith(top)
        except OSError:
            return False

    ours: Set[int] = {pid for pid in parents if is_ours(pid)}
    while True:
        # Process 1 of a view has another current directory.
        more = {pid for pid, parent in parents.items() if parent in ours and is_tool(pid)} - ours
        if not more:
            break
        ours |= more
    return sorted(ours | {pid for pid, parent in parents.items() if parent in ours})


def working_below(top: Path) -> List[int]:
    """Processes, other than this one, whose current directory is a directory or below it: clients, and daemons also while they
    start and no file says their pids."""
    prefix = os.fspath(top.resolve())
    found = []
    for pid in _parents():
        try:
            here = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if pid != os.getpid() and (here == prefix or here.startswith(prefix + "/")):
            found.append(pid)
    return found


def kill(pids: List[int]) -> int:
    """Send SIGKILL to processes; returns how many there were."""
    sent = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            sent += 1
        except ProcessLookupError:
            continue
    return sent


def mounts() -> Set[str]:
    """The lines of this namespace's /proc/mounts."""
    return set(Path("/proc/mounts").read_text().splitlines())


def left_in_store(store: Path) -> List[str]:
    """What lies in a store of unpacked layers and is no layer: records of scratch directories, unfinished entries."""
    directories = [path for name in ("scratch", "tmp") for path in store.glob(f"v*/*/{name}")]
    return sorted(str(path) for directory in directories for path in directory.iterdir())


def left_in_sandboxes(sandboxes: Path) -> List[str]:
    """Scratch directories of the tool in sandboxes of processes."""
    found = [path for name in ("scratch", "sorted-readdir") for path in sandboxes.glob(f"pants-sandbox-*/{name}")]
    return sorted(map(str, found))
