"""Access control lists of a view's files, taken away: no engine unpacks them."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path
from typing import Optional

from opam_sandbox.sandbox import open_in_root

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"

# As the kernel keeps them: a version, then a tag, permissions and an id for each entry.
_HEAD = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_OWNING_GROUP = 4


def remove(root: Path, name: str) -> None:
    """Take the lists of a file or directory away. What its group may do stays: with a list, the mode has in the group's place
    what the list allows to anybody. Raises OSError."""
    with open_in_root.directory(root) as top:
        opened = open_in_root.open_at(top, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            group = _group(_read(opened, ACCESS))
            for kind in (ACCESS, DEFAULT):
                if _read(opened, kind):
                    os.removexattr(opened, kind)
            if group is not None:
                mode = stat.S_IMODE(os.fstat(opened).st_mode)
                os.fchmod(opened, mode & ~0o070 | mode & group << 3)
        finally:
            os.close(opened)


def _read(opened: int, kind: str) -> bytes:
    try:
        return os.getxattr(opened, kind)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return b""


def _group(access: bytes) -> Optional[int]:
    """What a list gives the owning group, as bits; None if it says nothing."""
    entries = access[_HEAD.size :]
    for tag, permissions, _ in _ENTRY.iter_unpack(entries[: len(entries) // _ENTRY.size * _ENTRY.size]):
        if tag == _OWNING_GROUP:
            return int(permissions) & 7
    return None
