"""What an unpacked layer, or what was written into a view, has at a path, and what of the layers below it hides.

As overlayfs reads it: a character device 0:0 is a whiteout, an attribute marks a directory as opaque. Nothing here follows a
link. Source: the kernel's Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple, Optional


class AtPath(NamedTuple):
    """status: what lstat(2) says of what is there; None for nothing, and for a whiteout. hides: nothing that lower layers have
    at this path is seen; what is below a directory of theirs neither."""

    status: Optional[os.stat_result]
    hides: bool

    @property
    def is_directory(self) -> bool:
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)


def opaque_attribute(rootless: bool) -> str:
    """What marks a directory as opaque. Without privileges overlayfs has another one, and the other means nothing to it."""
    return "user.overlay.opaque" if rootless else "trusted.overlay.opaque"


def is_opaque(directory: bytes, rootless: bool) -> bool:
    """Whether what lower layers have in this directory is hidden."""
    try:
        return os.getxattr(directory, opaque_attribute(rootless), follow_symlinks=False) == b"y"
    except OSError:
        return False


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this marks something of a lower layer as deleted."""
    return stat.S_ISCHR(status.st_mode) and not status.st_rdev


def look(layer: bytes, path: bytes, rootless: bool) -> AtPath:
    """What a layer has at a path, which is relative to the layer's directory. Raises OSError."""
    here, hidden = layer, False
    parts = path.split(b"/")
    for number, part in enumerate(parts, 1):
        here = b"%s/%s" % (here, part)
        try:
            found = os.lstat(here)
        except FileNotFoundError:
            return AtPath(None, hidden)
        is_last = number == len(parts)
        if not stat.S_ISDIR(found.st_mode):
            return AtPath(found if is_last and not is_whiteout(found) else None, True)
        hidden = hidden or is_opaque(here, rootless)
        if is_last:
            return AtPath(found, hidden)
    return AtPath(None, hidden)
