"""Layers mounted over one another: overlay file systems, and which directories of the layers one directory is merged of."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox import layer_paths, memory, syscalls

# overlayfs takes at most 500 lower directories, and mount options one page (with names as short as ours, about 800). A view for
# opam's commands has one more than there are layers.
MAX_LOWER = 499

_FRAME = 16 << 20  # bytes


class Stack:
    """`lower`: unpacked layers, bottom first; the attribute has them topmost first, as bytes. `scratch`: a directory of this
    process, on a file system that can hold an overlay's upper directory.

    `upper`: what was written into it.
    """

    def __init__(self, lower: Sequence[Path], scratch: Path, rootless: bool) -> None:
        if len(lower) > MAX_LOWER:
            raise ToolError(f"{len(lower)} layers are needed, but overlayfs stacks at most {MAX_LOWER}")
        # overlayfs takes no directory twice. Of a layer that is there twice, the upper one hides all that the lower one shows.
        self.lower = list(dict.fromkeys(os.fsencode(path) for path in reversed(lower)))
        self.scratch = scratch.resolve()
        self.rootless = rootless
        self.upper = self.scratch / "upper"
        self.merged = self.scratch / "merged"
        # In memory, for what the mounts need besides: a disk may take a millisecond for each symlink.
        self.frame = self.scratch / "frame"
        self._names: Dict[bytes, str] = {}
        self._mounted = self._has_frame = False

    @property
    def root(self) -> Path:
        """Where the merged view is mounted."""
        return self.merged

    @property
    def below(self) -> List[bytes]:
        """The directories that the view is mounted of, topmost first, but for the upper one."""
        return self.lower

    def mount(self) -> None:
        """Mount the view. Raises ToolError where overlayfs does not mount."""
        self.mount_frame()
        self.mount_merged()

    def mount_frame(self) -> None:
        """Make the directories that mounts need."""
        for directory in (self.upper, self.merged, self.frame):
            directory.mkdir(parents=True)
        _remove_access_lists(self.upper)
        os.chmod(self.upper, 0o755)
        memory.mount(self.frame, _FRAME, syscalls.MS_NOSUID | syscalls.MS_NODEV)
        self._has_frame = True

    def mount_merged(self) -> None:
        """Mount the view, also once more after `unmount`, with what was written until then."""
        self.mount_overlay(self.merged, self.below, self.upper, 0 if self.rootless else syscalls.MS_NODEV)
        self._mounted = True

    def mount_overlay(self, target: Path, lower: Sequence[bytes], upper: Optional[Path], flags: int) -> None:
        """Mount directories (topmost first) over one another; without `upper`, nobody writes there. Raises ToolError."""
        options = [
            "lowerdir=" + ":".join(self._short_name(path) for path in lower),
            # Renames and metadata changes are to leave whole files behind, which a tar can say.
            "redirect_dir=nofollow,index=off,metacopy=off",
        ]
        if upper is not None:
            # Nothing here outlives this process but what is copied out: no fsync, and no sync of the disk at the end. The work
            # directory of such a mount serves no other one.
            work = next(
                path for path in (self.scratch / f"work{n}" for n in itertools.count()) if not os.path.lexists(path)
            )
            work.mkdir()
            options.append(f"upperdir={self._short_name(os.fsencode(upper))},workdir=../{work.name},volatile")
        else:
            flags |= syscalls.MS_RDONLY
        options.append("userxattr" if self.rootless else "xino=off")
        here = os.getcwd()
        os.chdir(self.frame)
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

    def give_short_names(self, paths: Sequence[bytes]) -> None:
        """Have the names that `mount_overlay` uses for these. Raises OSError."""
        for path in paths:
            self._short_name(path)

    def _short_name(self, path: bytes) -> str:
        """Of a link to the path, in `frame`."""
        name = self._names.get(path)
        if name is None:
            name = self._names[path] = f"{len(self._names):x}"
            os.symlink(path, self.frame / name)
        return name

    def merged_directories(self, layers: Sequence[bytes], name: str) -> List[bytes]:
        """The directories `name` of layers (topmost first) that overlayfs merges: down to the first that is opaque, or is no
        directory, as are links on the way. Raises OSError."""
        found: List[bytes] = []
        for layer in layers:
            here = layer_paths.look(layer, os.fsencode(name), self.rootless)
            if here.is_directory:
                found.append(os.path.join(layer, os.fsencode(name)))
            if here.hides:
                break
        return found

    def unmount(self) -> None:
        """Take the merged view away, if it is there; what was written stays in `upper`."""
        if self._mounted:
            syscalls.umount(self.merged, syscalls.MNT_DETACH)
            self._mounted = False

    def remove(self) -> None:
        """Take the view away, and remove what was written. Raises OSError while processes still write."""
        # Never through the view: what is mounted in there is not this process's to remove.
        self.unmount()
        if self._has_frame:
            syscalls.umount(self.frame, syscalls.MNT_DETACH)
            self._has_frame = False
        remove_tree(self.scratch)


def _remove_access_lists(directory: Path) -> None:
    """What the directories above say of new files is nothing that a build is to find."""
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        try:
            os.removexattr(directory, name)
        except OSError:
            continue  # there is none, or the file system has none
