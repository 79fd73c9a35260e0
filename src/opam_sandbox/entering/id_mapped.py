"""Mounts that show the files of one user as another's (mount_setattr(2), MOUNT_ATTR_IDMAP).

root's commands run as opam (1000). In a directory that is mounted so, what belongs to its owner is opam's, and what opam makes
belongs to its owner. Without privileges there is nothing to do: a user's files are opam's in the user's namespace.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import List, Tuple

from opam_sandbox.sandbox.user_namespace import IdMap, unshare_user

_libc = ctypes.CDLL(None, use_errno=True)

# The numbers are the same on every machine that Debian has.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_MOUNT_ATTR_IDMAP = 0x00100000


def namespace(owner: Tuple[int, int], user: Tuple[int, int]) -> int:
    """The descriptor of a user namespace by which `mount` shows the files of `owner` (uid, gid) as those of `user`. Those of
    `user` are shown as the owner's; all others stay as they are. Outside of other namespaces, as root. Raises OSError, ToolError.
    """
    maps = [_swapped(one, other, f"/proc/self/{kind}_map") for kind, one, other in zip(("uid", "gid"), owner, user)]
    told, tell = os.pipe()
    wait, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(end)
            unshare_user(*maps)
            os.write(tell, b"x")
            os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.close(tell)
        os.close(wait)
        if not os.read(told, 1):
            raise OSError(1, "no user namespace can be made")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(told)
        os.close(end)
        os.waitpid(child, 0)


def _swapped(one: int, other: int, path: str) -> IdMap:
    """All ids that this process has, with two of them swapped."""
    parts: List[Tuple[int, int, int]] = []
    for line in Path(path).read_text().splitlines():
        first, _, count = (int(number) for number in line.split())
        edges = sorted({first, first + count, *(edge for id in (one, other) for edge in (id, id + 1))})
        edges = [edge for edge in edges if first <= edge <= first + count]
        parts += [(low, high - low, 0) for low, high in zip(edges, edges[1:])]
    swap = {one: other, other: one}
    return [(first, swap.get(first, first), count) for first, count, _ in parts]


def mount(source: str, target: Path, users: int) -> None:
    """Show a directory at another, with the ids of a user namespace (a descriptor). Nothing that is mounted in it is shown.
    Raises OSError: the file system or the kernel may have no such mounts."""
    tree = _call(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, users)
        _call(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, len(attributes))
        _call(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def _call(number: int, *arguments: object) -> int:
    typed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *typed)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
