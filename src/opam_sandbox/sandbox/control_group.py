"""A control group for a command: it bounds processes and memory, and says afterwards whether the bounds were met.

Only root can have one, and not everywhere: control groups may be read-only in a container, or lack the controllers. A command
that ran into a bound has failed, whatever its exit status: a `configure` that finds no memory for a test draws wrong conclusions.

Version 1 has a tree for each controller; groups are made below this process's own. In version 2 a group has either processes or
groups with controllers, so that a new one is made beside this process's own, or further up.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

from opam_sandbox.errors import MemoryShort, ToolError
from opam_sandbox.sandbox import limits

TOP = Path("/sys/fs/cgroup")
_PREFIX = "opam-oci-"
# Where this process has removed old groups.
_SWEPT: Set[Path] = set()
# A group that is older, in seconds, and empty, was left by a process that was killed.
_OLD = 60


class ControlGroup:
    """The directories of a new group, one for each controller: `pids`, `memory`."""

    def __init__(self, directories: Dict[str, Path]) -> None:
        self._directories = directories

    def enter(self) -> None:
        """Move this process, which has one thread, into the group, as far as it is let."""
        for directory in set(self._directories.values()):
            # Version 1 moves one thread at once. To move a process, the kernel waits until no CPU is forking: 10 ms.
            tasks = directory / "tasks"
            with suppress(OSError):
                (tasks if tasks.exists() else directory / "cgroup.procs").write_text("0")

    def problem(self, what: str = "") -> str:
        """What a command in it ran out of, "" if nothing. what: "processes" or "memory", and nothing else is looked at."""
        for controller, files, key, problem in _COUNTED:
            for name in files if what in ("", _LIMITS[controller]) else ():
                with suppress(KeyError, OSError, ValueError):
                    lines = (self._directories[controller] / name).read_text().splitlines()
                    if any(line.split()[:1] == [key] and int(line.split()[1]) for line in lines):
                        return problem
        return ""

    def counts_memory(self) -> bool:
        return "memory" in self._directories

    def remove(self) -> None:
        """Remove the group, whose processes have ended. One that cannot be removed yet, somebody removes later."""
        for directory in set(self._directories.values()):
            with suppress(OSError):
                directory.rmdir()


# controller, files of version 2 and 1, what is counted in them, and what that means
_MEMORY_FILES, _ENDED = ("memory.events", "memory.oom_control"), "oom_kill"
_SHORT = "memory was short, and the kernel ended some of it"
_MORE = (
    "Give the machine or its control group more memory, or run fewer builds at once (Pants' "
    "[GLOBAL].process_execution_local_parallelism)"
)
_LIMITS = {"pids": "processes", "memory": "memory"}
_COUNTED = (
    ("pids", ("pids.events",), "max", "it had more processes at once than a build may have"),
    ("memory", _MEMORY_FILES, _ENDED, f"{_SHORT}. {_MORE}"),
)


def ended_by_kernel(top: Path = TOP) -> int:
    """How many processes the kernel has ended because memory was short: of this process's own control group, else of the
    machine."""
    places = [
        Path(f"{top}/{names}{path}") for names, path in _own_groups() if "memory" in names.split(",") or not names
    ]
    for file in (*(place / name for place in places for name in _MEMORY_FILES), Path("/proc/vmstat")):
        with suppress(OSError, ValueError):
            counts = dict(line.split()[:2] for line in file.read_text().splitlines())
            if _ENDED in counts:
                return int(counts[_ENDED])
    return 0


def problem(group: Optional[ControlGroup], ended: int) -> str:
    """What a command ran out of, "" if nothing. group: its own; ended: what `ended_by_kernel` said before it.

    Without a group of its own that counts, those that share this process's group are taken for the command's: a build that
    went on without what the kernel ended may be wrong, and one that is made again is not."""
    found = group.problem() if group else ""
    if found or (group and group.counts_memory()) or ended_by_kernel() <= ended:
        return found
    return f"{_SHORT}, or of what runs beside it. {_MORE}"


def error(argv: Sequence[str], found: str) -> ToolError:
    """Of a command of which `problem` has found something."""
    text = f"`{' '.join(argv[:2])}` did not get what it needs of this machine: {found}"
    return MemoryShort(text) if found.startswith(_SHORT) else ToolError(text)


def make(top: Path = TOP, memory: int = 0, processes: int = 0) -> Optional[ControlGroup]:
    """A new group with bounds; None where there can be none. `top`: where control groups are mounted. memory (bytes), processes:
    bounds that are tighter than those of all commands; 0: these."""
    # One process is not the command's: the one that mounts its view.
    most = min(limits.processes()[1], processes + 1 if processes else limits.processes()[1])
    room = min(limits.memory(), memory or limits.memory())
    bounds = (
        ("pids", ("pids.max",), str(most)),
        ("memory", ("memory.max", "memory.limit_in_bytes"), str(room)),
    )
    name = _PREFIX + os.urandom(8).hex()
    directories: Dict[str, Path] = {}
    made: List[Path] = []
    for controller, files, bound in bounds:
        for parent in _parents(top, controller):
            directory = parent / name
            try:
                if directory not in made:
                    if parent not in _SWEPT:
                        _sweep(parent)
                        _SWEPT.add(parent)
                    directory.mkdir()
                    made.append(directory)
                file = next((directory / file for file in files if (directory / file).exists()), None)
                if file is None:
                    continue  # without this controller
                file.write_text(bound)
            except OSError:
                continue
            directories[controller] = directory
            break
    for directory in set(made) - set(directories.values()):
        with suppress(OSError):
            directory.rmdir()
    return ControlGroup(directories) if directories else None


def _parents(top: Path, controller: str) -> Iterator[Path]:
    """Where a group with this controller may be made, the best first."""
    for controllers, path in _own_groups():
        if controller in controllers.split(","):
            own = Path(f"{top}/{controllers}{path}")
            yield own if own.is_dir() else Path(f"{top}/{controllers}")
        elif not controllers:
            above = [parent for parent in Path(f"{top}{path}").parents if parent == top or top in parent.parents]
            yield from (parent for parent in above if (parent / "cgroup.procs").exists())


def _own_groups() -> List[Tuple[str, str]]:
    """(controllers, path) of this process; no controllers: version 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    return [(line.split(":", 2)[1], os.path.normpath(line.split(":", 2)[2])) for line in lines if line.count(":") >= 2]


def _sweep(parent: Path) -> None:
    for entry in parent.iterdir():
        with suppress(OSError):
            if entry.name.startswith(_PREFIX) and time.time() - entry.stat().st_ctime > _OLD:
                entry.rmdir()
