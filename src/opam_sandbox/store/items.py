"""What the store holds, piece by piece: what can be removed alone is an item, and items that are alike are of one kind."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

from opam_sandbox.layer.store import Store


class Item(NamedTuple):
    """`size` in bytes on disk; `last_used` in seconds of the epoch; `in_use`: a process uses it now; `title` is for people."""

    kind: str
    name: str
    path: Path
    size: int
    last_used: float
    in_use: bool = False
    title: str = ""


class Kind(NamedTuple):
    """`find` lists the items of a store; raises OSError.

    `take` takes its name from an item that nobody uses, nor has used since it was listed: where it is then, to be deleted; None
    if somebody does. Raises OSError. None in its place: items of this kind are not pruned.
    """

    name: str
    about: str
    find: Callable[[Store], List[Item]]
    take: Optional[Callable[[Store, Item], Optional[Path]]] = None


def on_disk(path: Path) -> int:
    """The bytes that a file, or a tree, takes on its disk; what cannot be read counts nothing."""
    try:
        top = os.lstat(path)
    except OSError:
        return 0
    total, seen, waiting = top.st_blocks * 512, set(), [os.fspath(path)]
    if not stat.S_ISDIR(top.st_mode):
        return total
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                listed = [(entry.path, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError:
            continue
        for below, found in listed:
            if stat.S_ISDIR(found.st_mode):
                waiting.append(below)
            elif found.st_nlink > 1:
                if (found.st_dev, found.st_ino) in seen:
                    continue
                seen.add((found.st_dev, found.st_ino))
            total += found.st_blocks * 512
    return total


def newest(path: Path) -> float:
    """When a directory, or something right in it, was last changed: seconds of the epoch, 0 if it is gone."""
    times = [0.0]
    try:
        times.append(os.lstat(path).st_mtime)
        if not os.path.islink(path):
            with os.scandir(path) as entries:
                times += [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    except OSError:
        pass  # a file, or somebody else removes it
    return max(times)


def listed(path: Path) -> List[Path]:
    """What is right in a directory, by name; nothing where it is not there. Raises OSError."""
    try:
        return [path / name for name in sorted(os.listdir(path))]
    except (FileNotFoundError, NotADirectoryError):
        return []
