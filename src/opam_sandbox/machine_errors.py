"""What the machine refuses: a disk is full, a limit is reached, a file system is read-only. One text for each, for all commands.

A failed write says no more than an errno. `at` adds the path while the failure can still be looked at: what is cleaned up
afterwards makes room. What no `at` was around is explained where a command ends, by `explained`.

Modules that only an error needs are imported then.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

from opam_sandbox.errors import ToolError

# What has no room, or may not be written at all.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)

# As many open files as programs may have where nobody has changed anything, and as select(2) can take.
_USUAL_FILES = 1024

# For what is written into the directory of a process.
SANDBOXES = "set Pants' [GLOBAL].local_execution_root_dir to a directory of another file system"

# Bytes that a disk has left when a program that writes finds no room, at most.
_LEAST_ROOM = 1 << 20


class _FileSystem(NamedTuple):
    kind: str
    mounted: str


def is_of_machine(error: OSError) -> bool:
    """Whether an error says something of the machine or of this process's limits, and nothing of what was read."""
    return error.errno in _FULL + _LIMITS


@contextmanager
def at(path: Path, holds: str, remedy: str) -> Iterator[None]:
    """Explain what the machine refuses in this context, which writes below `path`. Raises ToolError for that; other errors
    pass.

    holds: what lies there, as a noun. remedy: what to do other than to make room, without a full stop.
    """
    try:
        yield
    except OSError as error:
        if not is_of_machine(error):
            raise
        where = _written(error) if error.errno in _FULL else None
        raise ToolError(_explain(error, where or os.fspath(path), holds, remedy)) from None


def check_room(path: Path, holds: str, remedy: str) -> None:
    """Raise ToolError where the file system of a directory is as good as full: programs that wrote there may have found no room,
    and not have said so. `holds` and `remedy` as of `at`."""
    problem = _no_room(path, holds, remedy)
    if problem:
        raise ToolError(problem)


@contextmanager
def suspecting(path: Path, holds: str, remedy: str) -> Iterator[None]:
    """Add to an error of this context that the file system of `path` is full, if it is: perhaps programs failed for that reason.

    `holds` and `remedy` as of `at`. Raises ToolError.
    """
    try:
        yield
    except ToolError as error:
        problem = _no_room(path, holds, remedy)
        if problem and problem not in str(error):
            raise ToolError(f"{error}. Perhaps for this reason: {problem}") from None
        raise


def _no_room(path: Path, holds: str, remedy: str) -> str:
    found = os.statvfs(path)
    free = found.f_bavail if os.geteuid() else found.f_bfree
    if free * found.f_frsize < _LEAST_ROOM or (found.f_files and not found.f_ffree):
        return _explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), os.fspath(path), holds, remedy)
    return ""


def explained(error: BaseException) -> Optional[ToolError]:
    """An error that a command ends with, as a message for people; None for a mistake of the program."""
    if isinstance(error, MemoryError):
        return ToolError(_LIMIT_TEXTS[errno.ENOMEM])
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return ToolError(_LIMIT_TEXTS[errno.EAGAIN])
    if not isinstance(error, OSError) or error.errno is None:
        return None
    path = _written(error)
    if not is_of_machine(error):
        return ToolError(_elsewhere(error, path))
    if error.errno in _FULL and path is None:
        return ToolError(_explain_somewhere(error))
    if path is None:
        return ToolError(_explain(error, os.getcwd(), "", ""))
    inside = path.startswith(os.path.realpath(os.getcwd()) + "/")
    remedy = SANDBOXES if inside else "set TMPDIR to a directory of another file system" if _is_temporary(path) else ""
    return ToolError(_explain(error, path, "this process's files" if inside else "", remedy))


def allow_usual_files() -> None:
    """Let this process open as many files as most may, if its limit is lower and it is allowed to raise it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _USUAL_FILES if hard == resource.RLIM_INFINITY else min(_USUAL_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _limit(kind: int) -> str:
    soft, hard = resource.getrlimit(kind)
    return " of ".join("unlimited" if number == resource.RLIM_INFINITY else str(number) for number in (soft, hard))


_LIMIT_TEXTS = {
    errno.ENFILE: "the machine has as many files open as it can (`sysctl fs.file-max`)",
    errno.ENOMEM: "there is not enough memory: give the machine or its control group more, or run fewer builds at once "
    "(Pants' [GLOBAL].process_execution_local_parallelism)",
    errno.EAGAIN: "no more processes can be started: raise the limit (`ulimit -u`, or the control group's pids.max), or run "
    "fewer builds at once (Pants' [GLOBAL].process_execution_local_parallelism)",
}


def _explain(error: OSError, path: str, holds: str, remedy: str) -> str:
    number = error.errno
    if number == errno.EMFILE:
        limit = _limit(resource.RLIMIT_NOFILE)
        return f"this process may not open more files (it may {limit}): raise the limit (`ulimit -n 1024`)"
    if number in _LIMIT_TEXTS:
        return _LIMIT_TEXTS[number]
    what = f"{path}, which holds {holds}," if holds else path
    or_else = f", or {remedy}" if remedy else ""
    if number == errno.EFBIG:
        limit = _limit(resource.RLIMIT_FSIZE)
        return (
            f"a file below {what} is larger than allowed: raise this process's limit (`ulimit -f`; it is {limit} bytes)"
            f"{or_else}"
        )
    disk = place(path)
    if number == errno.EROFS:
        return f"{what} cannot be written: {disk} is read-only. Mount it for writing{or_else}."
    if number == errno.EDQUOT:
        return f"{what} cannot be written: the disk quota on {disk} is used up. Delete files there, raise it{or_else}."
    return f"there is no room for {what.rstrip(',')}: {disk} is full, {_left(path)}. Delete files there{or_else}."


def _explain_somewhere(error: OSError) -> str:
    """For a write to a file that the error does not name: one of few."""
    seen: List[int] = []
    texts = []
    for path, remedy in _usual_places():
        device = os.stat(path).st_dev
        if device not in seen:
            seen.append(device)
            texts.append(f"{path} ({place(path)}, {_left(path)}; {remedy})")
    return f"a file cannot be written: {os.strerror(error.errno or 0)}. It is of one of these: {', '.join(texts)}."


def _usual_places() -> Iterator[Tuple[str, str]]:
    import tempfile

    for path, remedy in (
        (os.getcwd(), "[GLOBAL].local_execution_root_dir"),
        (os.path.realpath("store"), "[GLOBAL].named_caches_dir"),
        (tempfile.gettempdir(), "TMPDIR"),
    ):
        if os.path.isdir(path):
            yield path, remedy


def _is_temporary(path: str) -> bool:
    import tempfile

    return path.startswith(os.path.realpath(tempfile.gettempdir()) + "/")


def _elsewhere(error: OSError, path: Optional[str]) -> str:
    """An error that nobody expected: with the place in the program, for who mends it."""
    import traceback

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "opam_sandbox" in frame.filename]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{path or 'a file'}: {error.strerror}{where}"


def _written(error: OSError) -> Optional[str]:
    """The file that an error names: the second one of two, as in copying and renaming."""
    for name in (error.filename2, error.filename):
        if isinstance(name, (str, bytes)) and name:
            return os.path.abspath(os.fsdecode(name))
        if isinstance(name, int):
            try:
                return os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
    return None


def _existing(path: str) -> str:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def place(path: str) -> str:
    """The file system of a path, in words."""
    found = _file_system(_existing(path))
    return f"the {found.kind} file system at {found.mounted}" if found else "its file system"


def is_in_memory(path: Path) -> bool:
    """Whether what lies at a path takes up memory: it is on a tmpfs, or one like it."""
    found = _file_system(os.fspath(path))
    return found is not None and found.kind in ("tmpfs", "ramfs")


def _file_system(path: str) -> Optional[_FileSystem]:
    """What is mounted above a path: of the mounts around it the innermost, and of several at one place the last."""
    real, best = os.path.realpath(path), None
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields = line.split()
                mounted = fields[4].replace("\\040", " ").replace("\\134", "\\")
                inside = real == mounted or real.startswith(mounted.rstrip("/") + "/")
                if inside and (best is None or len(mounted) >= len(best.mounted)):
                    best = _FileSystem(fields[fields.index("-") + 1], mounted)
    except (OSError, ValueError, IndexError):
        return None
    return best


def _left(path: str) -> str:
    try:
        found = os.statvfs(_existing(path))
    except OSError:
        return "as it says"
    left = f"{found.f_bavail * found.f_frsize} of {found.f_blocks * found.f_frsize} bytes are left"
    # Some file systems have no number of files that they can hold.
    return f"{left}, and no further file" if found.f_files and not found.f_favail else left
