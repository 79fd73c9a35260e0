"""What the Pants that started this process asks of builds beside their requests: what they may take.

It is in no request, as a request is a part of the cache's key: the layer of a build does not depend on it, and other machines,
which share the cache, ask for something else. It is a file in the store, `asked/<process id of Pants>`, or `asked/default` for
processes of no such Pants, as on a remote worker, whose administrator may write that one:

    {"time": 1800.0, "memory": 4294967296, "processes": 500, "disk": 0, "started": 12345}

Absent or 0: no bound.  started: of that process, as /proc/<id>/stat has it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox.watch import DISK, MEMORY, PROCESSES, TIME, Bounds, Watch
from opam_sandbox.strict_json import parse_object

# How options of Pants are called that set these, for messages.
_OPTIONS = {
    TIME: "`[opam].build_timeout`",
    MEMORY: "`[opam].build_memory_limit`",
    PROCESSES: "`[opam].build_processes_limit`",
    DISK: "`[opam].build_disk_limit`",
}
_DIRECTORY, _DEFAULT = "asked", "default"
# Between this process and Pants there may be programs such as `taskset`.
_ANCESTORS = 8


def watch(store: Path) -> Optional[Watch]:
    """What bounds this process's build; None where nothing does. store: the directory of a request. Raises ToolError."""
    path, asked = _read(store)
    values = {}
    for name in _OPTIONS:
        value = asked.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 << 62:
            raise ToolError(f"{path}: `{name}` is {value!r:.80}, but should be a number: delete the file")
        values[name] = value
    bounds = Bounds(values[TIME], int(values[MEMORY]), int(values[PROCESSES]), int(values[DISK]))
    names = {name: f"`{name}` in {path}" for name in _OPTIONS} if path and path.name == _DEFAULT else _OPTIONS
    return Watch(bounds, names) if any(bounds) else None


def _read(store: Path) -> Tuple[Optional[Path], Dict[str, Any]]:
    directory = store / _DIRECTORY
    if not directory.is_dir():
        return None, {}
    pid = os.getppid()
    for _ in range(_ANCESTORS):
        stat = _stat(pid)
        path = directory / str(pid)
        asked = _parse(path)
        # The number may have been another process's before.
        if asked is not None and stat is not None and asked.get("started") == stat[1]:
            return path, asked
        if stat is None or stat[0] <= 1:
            break
        pid = stat[0]
    path = directory / _DEFAULT
    return path, _parse(path) or {}


def _parse(path: Path) -> Optional[Dict[str, Any]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return dict(parse_object(content, str(path)))
    except ToolError as error:
        raise ToolError(f"{error}. Delete the file; Pants writes it anew") from None


def _stat(pid: int) -> Optional[Tuple[int, int]]:
    """(parent, when it was started) of a process."""
    try:
        fields = Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[1]), int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
