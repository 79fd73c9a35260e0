"""Opens names below a directory so that no link that was made there leads out of it, whoever changes it meanwhile.

The kernel does the whole look-up in one call where it has openat2 (Linux 5.6); else, or where a seccomp filter forbids it,
the name is walked component by component, each opened without following it, which holds as well.

A look-up also stays in one file system: a view has /proc mounted in it, and a link to /proc/self/environ, which leads out of
no root, would show the environment of the process that reads.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Iterator, List, Tuple

from opam_sandbox.sandbox import syscalls

_MOST_LINKS = 40
# openat2 gives up where something was renamed or mounted anywhere while it stepped over a `..`.
_TRIES = 8


@contextmanager
def directory(root: Path) -> Iterator[int]:
    """A descriptor of `root`, to look names up from. Only the way to it may have links, it may be none. Raises OSError."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield top
    finally:
        os.close(top)


def open_at(top: int, name: str, flags: int, links: bool = False, crossing: bool = False) -> int:
    """A descriptor of `name`, looked up from the directory `top`, which its links and `..` cannot leave.

    flags: as open(2) has them, but nothing is made. links: they are followed, with `top` as their root, else refused (with
    O_PATH | O_NOFOLLOW, a link itself is opened). crossing: what is mounted below `top` is found as well. Raises OSError.
    """
    if "\0" in name:
        raise _error(errno.ENOENT, name)
    if _has_openat2():
        resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
        resolve |= (0 if links else syscalls.RESOLVE_NO_SYMLINKS) | (0 if crossing else syscalls.RESOLVE_NO_XDEV)
        for _ in range(_TRIES):
            try:
                return syscalls.openat2(top, name or ".", flags, resolve)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
    return _walk_and_open(top, name, flags, links, crossing)


def real_name(top: int, name: str) -> str:
    """The name of the same thing without links and `..`, all links followed with `top` as their root. Raises OSError."""
    here, real = _walk(top, name, links=True, last=True, crossing=False)
    os.close(here)
    return real


@lru_cache(maxsize=None)
def _has_openat2() -> bool:
    try:
        os.close(syscalls.openat2(-100, ".", os.O_PATH, 0))  # AT_FDCWD
    except OSError:
        return False
    return True


def _walk_and_open(top: int, name: str, flags: int, links: bool, crossing: bool) -> int:
    here, real = _walk(top, name, links, not flags & os.O_NOFOLLOW, crossing)
    try:
        found = os.fstat(here)
        if flags & os.O_DIRECTORY and not stat.S_ISDIR(found.st_mode):
            raise _error(errno.ENOTDIR, name)
        if flags & os.O_PATH:
            return os.dup(here)
        if stat.S_ISLNK(found.st_mode):
            raise _error(errno.ELOOP, name)
        parent, base = os.path.split(real)
        above, _ = _walk(top, parent, links=False, last=True, crossing=crossing)
        try:
            opened = os.open(base or ".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        finally:
            os.close(above)
        if not os.path.samestat(os.fstat(opened), found):
            os.close(opened)
            raise _error(errno.ESTALE, name)
        return opened
    finally:
        os.close(here)


def _walk(top: int, name: str, links: bool, last: bool, crossing: bool) -> Tuple[int, str]:
    """An O_PATH descriptor, and the name without links. `last`: a link that is the last component is followed as well."""
    opened = [os.dup(top)]
    done: List[str] = []
    waiting = _parts(name)
    followed = 0
    device = os.fstat(top).st_dev
    try:
        while waiting:
            part = waiting.pop()
            if part == "..":
                if done:
                    done.pop()
                    os.close(opened.pop())
                continue
            here = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[-1])
            opened.append(here)
            done.append(part)
            found = os.fstat(here)
            if stat.S_ISLNK(found.st_mode) and (waiting or last):
                followed += 1
                if not links or followed > _MOST_LINKS:
                    raise _error(errno.ELOOP, name)
                target = os.readlink("", dir_fd=here)
                # From here on from the link's directory, or from the top for an absolute one.
                keep = 1 if target.startswith("/") else len(opened) - 1
                while len(opened) > keep:
                    os.close(opened.pop())
                done = done[: keep - 1]
                waiting += _parts(target)
            elif stat.S_ISDIR(found.st_mode) and found.st_dev != device and not crossing:
                # Directories of an overlay all have its number; its files have those of their layers.
                raise _error(errno.EXDEV, name)
        return opened.pop(), "/".join(done)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _parts(name: str) -> List[str]:
    """The components, the last first."""
    if "\0" in name:
        raise _error(errno.ENOENT, name)
    return [part for part in name.split("/") if part not in ("", ".")][::-1]


def _error(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)
