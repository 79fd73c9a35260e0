"""Layers mounted over one another: overlay file systems, and which directories of the layers one directory is merged of."""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import suppress
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox import open_in_root, syscalls

# overlayfs takes at most 500 lower directories, and mount options one page (with names as short as ours, about 800). A view for
# opam's commands has one more than there are layers.
MAX_LOWER = 499

_OPAQUE = (b"trusted.overlay.opaque", b"user.overlay.opaque")


class Stack:
    """`lower`: unpacked layers, bottom first; the attribute has them topmost first, as bytes. `scratch`: a directory of this
    process, on a file system that can hold an overlay's upper directory.

    `root`: where the merged view is mounted. `upper`: what was written into it.
    """

    def __init__(self, lower: Sequence[Path], scratch: Path, rootless: bool) -> None:
        if len(lower) > MAX_LOWER:
            raise ToolError(f"{len(lower)} layers are needed, but overlayfs stacks at most {MAX_LOWER}")
        self.lower = [os.fsencode(path) for path in reversed(lower)]
        self.scratch = scratch.resolve()
        self.rootless = rootless
        self.upper = self.scratch / "upper"
        self.root = self.scratch / "merged"
        self._mounted = False

    def mount(self) -> None:
        """Mount the view. Raises ToolError where overlayfs does not mount."""
        for directory in (self.upper, self.root):
            directory.mkdir(parents=True)
        os.chmod(self.upper, 0o755)
        self.mount_merged()

    def mount_merged(self) -> None:
        """Mount the view, also once more after `unmount`, with what was written until then."""
        self.mount_overlay(self.root, self.lower, self.upper, 0 if self.rootless else syscalls.MS_NODEV)
        self._mounted = True

    def mount_overlay(self, target: Path, lower: Sequence[bytes], upper: Optional[Path], flags: int) -> None:
        """Mount directories (topmost first) over one another; without `upper`, nobody writes there. Raises ToolError."""
        # A `volatile` mount's work directory serves no other one.
        links, work = self._new_directory("l"), self._new_directory("w")
        for number, path in enumerate(lower):
            os.symlink(path, os.path.join(os.fsencode(links), b"%x" % number))
        options = [
            "lowerdir=" + ":".join(f"{number:x}" for number in range(len(lower))),
            # Renames and metadata changes are to leave whole files behind, which a tar can say.
            "redirect_dir=nofollow,index=off,metacopy=off",
        ]
        if upper is not None:
            os.symlink(upper, links / "u")
            # Nothing here outlives this process but what is copied out: no fsync, and no sync of the disk at the end.
            options.append(f"upperdir=u,workdir=../{work.name},volatile")
        else:
            flags |= syscalls.MS_RDONLY
        options.append("userxattr" if self.rootless else "xino=off")
        here = os.getcwd()
        os.chdir(links)
        try:
            syscalls.mount("overlay", target, "overlay", flags, ",".join(options))
        except OSError as error:
            raise ToolError(
                f"overlayfs does not mount here ({error.strerror}). The sandboxes' directory "
                f"({self.scratch}) must be on a file system that can hold an overlay's upper directory (ext4, xfs, btrfs, "
                "tmpfs; not overlayfs itself): set Pants' [GLOBAL].local_execution_root_dir."
            ) from None
        finally:
            os.chdir(here)

    def _new_directory(self, prefix: str) -> Path:
        for number in itertools.count():
            path = self.scratch / f"{prefix}{number}"
            with suppress(FileExistsError):
                path.mkdir()
                return path
        raise AssertionError

    def unmount(self) -> None:
        """Take the merged view away; what was written stays in `upper`."""
        syscalls.umount(self.root, syscalls.MNT_DETACH)
        self._mounted = False

    def remove(self) -> None:
        """Take the view away, and remove what was written. Raises OSError while processes still write."""
        # Never through the view: what is mounted in there is not this process's to remove.
        if self._mounted:
            self.unmount()
        remove_tree(self.scratch)


def merged_directories(layers: Sequence[bytes], name: str) -> List[bytes]:
    """The directories `name` of layers (topmost first) that overlayfs merges: down to the first that is opaque, or is something
    else. Links on the way are something else as well. Raises OSError."""
    found = list(layers)
    for part in name.split("/"):
        below: List[bytes] = []
        for directory in found:
            is_there, is_last = _look(directory, part)
            if is_there:
                below.append(os.path.join(directory, os.fsencode(part)))
            if is_last:
                break
        found = below
    return found


def _look(directory: bytes, name: str) -> Tuple[bool, bool]:
    """Whether a layer's directory has a directory of this name, and whether what lies below is hidden."""
    try:
        with open_in_root.directory(Path(os.fsdecode(directory))) as top:
            descriptor = open_in_root.open_at(top, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False, False
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return False, True
        raise
    try:
        return True, any(_attribute(descriptor, attribute) == b"y" for attribute in _OPAQUE)
    finally:
        os.close(descriptor)


def _attribute(descriptor: int, name: bytes) -> bytes:
    try:
        return os.getxattr(descriptor, name)
    except OSError:
        return b""
