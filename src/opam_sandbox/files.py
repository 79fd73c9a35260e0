"""Files and directories of this process's own: hashing, writing JSON whole, removing trees."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Callable, List, Tuple, Union

CHUNK = 1 << 20


def file_sha256(
    path: Union[str, "os.PathLike[str]"], write: Callable[[bytes], object] = lambda data: None
) -> Tuple[str, int]:
    """The sha256 (hex) and the size in bytes of what a file holds, which also goes to `write`. Raises OSError."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb") as content:
        for data in iter(lambda: content.read(CHUNK), b""):
            size += len(data)
            digest.update(data)
            write(data)
    return digest.hexdigest(), size


def write_json(path: str, data: Any) -> None:
    """Write JSON with sorted keys, whole or not at all. Raises OSError."""
    temporary = f"{path}.tmp"
    try:
        # A byte that was no UTF-8, where it was read, gets the escape that JSON has for it (`\\udcff`).
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as out:
            json.dump(data, out, indent=1, sort_keys=True, ensure_ascii=False)
            out.write("\n")
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Remove a tree, or a file, if it is there, whatever its directories' modes (overlayfs leaves a work directory of mode 0),
    and however deep they are. Nothing is removed that is mounted in it.

    Raises OSError.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)
        return
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove_directory(parent, path.name)
    finally:
        os.close(parent)


def _remove_directory(parent: int, name: str) -> None:
    """By descriptors, one at a time: neither the length of paths nor the number of open files is a bound."""
    here = _open_directory(parent, name)
    try:
        top = os.fstat(here)
        # From the top down to `here`: the directory itself, and which directories of it are still to be removed.
        way: List[Tuple[os.stat_result, List[str]]] = [(top, _remove_files(here))]
        while True:
            _, left = way[-1]
            if left:
                below = _open_directory(here, left[-1])
                os.close(here)
                here = below
                found = os.fstat(here)
                if found.st_dev != top.st_dev:
                    raise OSError(errno.EBUSY, "something is mounted there", left[-1])
                way.append((found, _remove_files(here)))
                continue
            way.pop()
            if not way:
                break
            above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = above
            if not os.path.samestat(os.fstat(here), way[-1][0]):
                raise OSError(errno.EBUSY, "it was moved while it was removed", name)
            _ignore_missing(os.rmdir, way[-1][1].pop(), here)
    finally:
        os.close(here)
    _ignore_missing(os.rmdir, name, parent)


def _open_directory(parent: int, name: str) -> int:
    """A directory that this process may then empty."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        opened = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(name, stat.S_IRWXU, dir_fd=parent)
        opened = os.open(name, flags, dir_fd=parent)
    if os.fstat(opened).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(PermissionError):  # then it is another user's, and what follows says so
            os.fchmod(opened, stat.S_IRWXU)
    return opened


def _remove_files(directory: int) -> List[str]:
    """Remove all of an open directory but the directories in it; returns their names."""
    with os.scandir(directory) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if not is_directory:
            _ignore_missing(os.unlink, name, directory)
    return [name for name, is_directory in listed if is_directory]


def _ignore_missing(remove: Callable[..., None], name: str, directory: int) -> None:
    try:
        remove(name, dir_fd=directory)
    except FileNotFoundError:
        pass  # somebody else removes the same tree
