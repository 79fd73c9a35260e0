"""What root's files let nobody else read, enter or run.

The user opam may not, either. Without privileges, though, all files of a view are one user's, who is opam then. So a view for
opam's commands hides them, for root and for everybody, and the same is refused whoever builds.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Sequence, Set, Tuple

from opam_sandbox.sandbox import open_in_root

# Opam's own, and what is mounted: nothing below these is looked at.
_LEFT_OUT = ("home/opam", "proc", "dev", "tmp", "var/tmp", "run/lock", "sys")

# What is done: an empty directory or file that nobody may open lies in its place, or it cannot be run.
HIDDEN_DIRECTORY, HIDDEN_FILE, NOT_RUN = "hidden directory", "hidden file", "not run"


def kind(mode: int) -> str:
    """What is to be done with a file of this mode (st_mode): HIDDEN_*, NOT_RUN (read, but not run), or "": nothing.

    Where its owner may do less than others, these may do no more than the owner.
    """
    if stat.S_ISLNK(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return ""
    common = (mode >> 6) & mode & 7
    if stat.S_ISDIR(mode):
        return "" if common & 5 == 5 else HIDDEN_DIRECTORY
    if not common & 4:
        return HIDDEN_FILE
    return NOT_RUN if stat.S_ISREG(mode) and mode & 0o101 and not common & 1 else ""


def is_left_out(name: str) -> bool:
    """Whether a name (relative to the view's root) is opam's, or of what is mounted in a view."""
    return any(name == one or name.startswith(one + "/") for one in _LEFT_OUT)


def names(tree: Path) -> List[str]:
    """The names in an unpacked layer, or in what was written into a view, that are not for everybody. Raises OSError."""
    return [os.fsdecode(name) for name in _walk(os.fsencode(tree))]


def _walk(tree: bytes) -> Iterator[bytes]:
    waiting: List[bytes] = [b""]
    while waiting:
        below = waiting.pop()
        with os.scandir(os.path.join(tree, below)) as entries:
            found = [(os.path.join(below, entry.name), entry.stat(follow_symlinks=False).st_mode) for entry in entries]
        for name, mode in found:
            if is_left_out(os.fsdecode(name)):
                continue
            what = kind(mode)
            if what:
                yield name
            # A hidden directory of one layer may be an open one of another.
            if stat.S_ISDIR(mode) and os.access(os.path.join(tree, name), os.R_OK | os.X_OK):
                waiting.append(name)


def of_view(
    root: Path, upper: Path, lower: Sequence[bytes], names_of: Callable[[Path], Iterable[str]]
) -> List[Tuple[str, str]]:
    """(name, what is done: see `kind`) of what a mounted view has, without what lies in a hidden directory; sorted.

    names_of: `names` of a lower directory, which somebody may remember.
    """
    candidates: Set[str] = set(names(upper))
    for layer in lower:
        candidates.update(names_of(Path(os.fsdecode(layer))))
    found: List[Tuple[str, str]] = []
    hidden = "\0"
    with open_in_root.directory(root) as top:
        for name in sorted(candidates, key=lambda name: name.split("/")):
            what = "" if name.startswith(hidden) else _kind_of(top, name)
            if what:
                found.append((name, what))
            if what == HIDDEN_DIRECTORY:
                hidden = name + "/"
    return found


def _kind_of(top: int, name: str) -> str:
    """Of what has the name, if anything has, and not only behind a link."""
    try:
        descriptor = open_in_root.open_at(top, name, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        return kind(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
