"""The walk of a tree (an overlay's upper directory, or a whole root): what of it goes into a layer."""

from __future__ import annotations

import os
import stat
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.tar_headers import WHITEOUT
from opam_sandbox.sandbox import layer_paths

# How the overlay file system marks directories for itself; none of it means anything in a layer.
OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")
# What file systems say of themselves.
LEFT_OUT_XATTRS = (*OVERLAY_XATTRS, b"system.")
ACCESS_LISTS = (b"system.posix_acl_access", b"system.posix_acl_default")


class Rules(NamedTuple):
    """What of the tree is taken, and as whose.

    skip(path, directory): leave out this path and all below it. owner(path, stat): (uid, gid).
    lower: the lower directories, topmost first; a directory that stands there with the same mode and owner, and of which nothing
    is taken, is left out as well. owner_below(path, stat): of such a directory; None: as `owner`.
    rootless: overlayfs marks opaque directories as it does for users.
    """

    skip: Callable[[bytes, bool], bool]
    owner: Callable[[bytes, os.stat_result], Tuple[int, int]]
    lower: Sequence[bytes] = ()
    owner_below: Optional[Callable[[bytes, os.stat_result], Tuple[int, int]]] = None
    rootless: bool = False


class Found(NamedTuple):
    """A path of the tree: `stat` is what it is on disk; opaque: it hides what lower directories have in it."""

    path: bytes
    stat: os.stat_result
    opaque: bool = False


class Walk:
    """The entries of a tree that go into the layer, parents first, sorted by name."""

    def __init__(self, top: bytes, rules: Rules) -> None:
        self._top = top
        self._rules = rules
        self._found: List[Found] = []
        self.over_links: List[Tuple[bytes, bytes]] = []

    def found(self) -> List[Found]:
        """Raises OSError, ToolError."""
        # Directories whose entries are still to come, the innermost last: no deeper tree ends this process. None: all have come.
        waiting: List[Tuple[bytes, Optional[Found], Sequence[bytes], Iterator[bytes]]] = []
        waiting.append((b"", None, self._rules.lower, self._names(b"")))
        while waiting:
            directory, item, lower, names = waiting[-1]
            name = next(names, None)
            if name is not None:
                path = os.path.join(directory, name)
                merged = self._take(path, name, lower)
                if merged is not None:
                    waiting.append((path, self._found[-1], merged, self._names(path)))
                continue
            waiting.pop()
            if self._found and self._found[-1] is item and lower and self._is_like(directory, lower[0]):
                self._found.pop()  # copied up for something that is not taken
        return self._found

    def _is_like(self, path: bytes, below: bytes) -> bool:
        full, rules = os.path.join(self._top, path), self._rules
        here, there = os.lstat(full), os.lstat(below)
        return (
            stat.S_IMODE(here.st_mode) == stat.S_IMODE(there.st_mode)
            and rules.owner(path, here) == (rules.owner_below or rules.owner)(path, there)
            and xattrs(full) == xattrs(below)
        )

    def _names(self, directory: bytes) -> Iterator[bytes]:
        with os.scandir(os.path.join(self._top, directory)) as entries:
            return iter(sorted(entry.name for entry in entries))

    def _take(self, path: bytes, name: bytes, lower: Sequence[bytes]) -> Optional[List[bytes]]:
        """Note an entry. For a directory whose entries are to come, the lower ones that are merged with it, topmost first."""
        rules, full = self._rules, os.path.join(self._top, path)
        if len(path) > tar_headers.LONGEST_PATH:
            raise ToolError(
                f"/{os.fsdecode(path[:200])}... cannot be in a layer: its name has {len(path)} bytes, and what unpacks images "
                f"takes names of {tar_headers.LONGEST_PATH}"
            )
        status = os.lstat(full)
        if rules.skip(path, stat.S_ISDIR(status.st_mode)):
            return None
        if name.startswith(WHITEOUT):
            raise ToolError(
                f"/{os.fsdecode(path)} cannot be in a layer, where a name with `.wh.` in front marks a deleted file"
            )
        if not stat.S_ISDIR(status.st_mode):
            self._found.append(Found(path, status))
            below = _links_below(name, lower, rules.rootless) if stat.S_ISREG(status.st_mode) else None
            if below is not None:
                self.over_links.append((path, below))
            return None
        merged = _merged_below(name, lower, rules.rootless)
        # overlayfs also marks directories that hide nothing, such as every one that dpkg renames into place. Said in a
        # layer, that would hide what a layer beside it has there.
        opaque = layer_paths.is_opaque(full, rules.rootless) and bool(merged or not rules.lower)
        self._found.append(Found(path, status, opaque))
        return [] if opaque else merged


def _merged_below(name: bytes, lower: Sequence[bytes], rootless: bool) -> List[bytes]:
    """The directories `name` of lower layers that are merged: down to the first whiteout, file or opaque directory."""
    result: List[bytes] = []
    for directory in lower:
        here = layer_paths.look(directory, name, rootless)
        if here.is_directory:
            result.append(os.path.join(directory, name))
        if here.hides:
            break
    return result


def _links_below(name: bytes, lower: Sequence[bytes], rootless: bool) -> Optional[bytes]:
    """The topmost file `name` of these directories, if it has other names."""
    for directory in lower:
        here = layer_paths.look(directory, name, rootless)
        if here.status is not None:
            is_one_of_several = stat.S_ISREG(here.status.st_mode) and here.status.st_nlink > 1
            return os.path.join(directory, name) if is_one_of_several else None
        if here.hides:
            return None
    return None


def xattrs(full: bytes) -> Dict[bytes, bytes]:
    """The attributes of a path that a layer has, access control lists among them."""
    try:
        names = [os.fsencode(name) for name in os.listxattr(full, follow_symlinks=False)]
    except OSError:
        return {}
    return {
        name: os.getxattr(full, name, follow_symlinks=False)
        for name in names
        if name in ACCESS_LISTS or not name.startswith(LEFT_OUT_XATTRS) and name != b"security.selinux"
    }
