"""What a command sees beside the layers: /proc, a few devices, directories for scratch files, and the process's inputs.

All of it is mounted in the mount namespace of the command, and gone with it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import closed, syscalls, view_files
from opam_sandbox.sandbox.kernel_files import mount_proc

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"))
# Each instance has its own terminals. The machine bounds those of all instances together, and keeps some for itself.
_TERMINALS = "newinstance,ptmxmode=0666,mode=0620,max=1024"

# What a file in /dev holds, or where a link leads.
Device = Union[bytes, str]


class Bind(NamedTuple):
    """`source`, of this process's, is shown in a view. inode: of what it is shown on, where that was written into the view."""

    source: str
    writable: bool
    inode: Optional[int]


class Shown(NamedTuple):
    """places: directories for scratch files, by their names in the view (relative); what is no directory there is left out.
    devices: what is shown in /dev, by name (relative to it). binds: by target. closed: see `closed.of_view`; masks: a directory
    for what stands in for it. read_only: of what is not in `places` or `binds`, /dev as well."""

    places: Mapping[str, Path]
    devices: Mapping[str, Device]
    binds: Mapping[str, Bind]
    masks: Path
    closed: Sequence[Tuple[str, str]] = ()
    read_only: bool = False


def show(root: Path, shown: Shown) -> None:
    """Mount it all below `root`, a view in which nothing runs. Raises ToolError, OSError."""
    for name in ("proc", "dev"):
        if not view_files.is_directory(root, name):
            raise ToolError(f"/{name} of the layers is no directory: nothing is mounted there")
    mount_proc(root / "proc")
    _mount_devices(root / "dev", shown.devices)
    for name, directory in shown.places.items():
        if name.startswith("dev/") or view_files.is_directory(root, name):
            _bind(root, str(directory), name)
    if shown.read_only:
        syscalls.mount("none", root / "dev", flags=syscalls.MS_REMOUNT | syscalls.MS_RDONLY | syscalls.MS_NOSUID)
    for target, bind in shown.binds.items():
        _bind(root, bind.source, target)
        if not bind.writable:
            with view_files.mount_point(root, target) as mounted:
                if not os.path.samefile(bind.source, mounted):
                    raise ToolError(f"/{target} was moved away while something was mounted there")
                syscalls.make_read_only(mounted)
    if shown.closed:
        _close(root, shown)


def _bind(root: Path, source: str, target: str) -> None:
    with view_files.mount_point(root, target) as point:
        syscalls.mount(source, point, flags=syscalls.MS_BIND)


def _mount_devices(dev: Path, files: Mapping[str, Device]) -> None:
    syscalls.mount("tmpfs", dev, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=16m")
    for name in DEVICES:
        (dev / name).touch()
        syscalls.mount(f"/dev/{name}", dev / name, flags=syscalls.MS_BIND)
        # Devices can be written to all the same. But their modes are the machine's, and root of a view may not change them.
        syscalls.make_read_only(dev / name)
    for name, target in _LINKS:
        os.symlink(f"/proc/self/{target}", dev / name)
    for name, content in files.items():
        (dev / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            os.symlink(content, dev / name)
        else:
            (dev / name).write_bytes(content)
            os.chmod(dev / name, 0o644)
    (dev / "shm").mkdir()
    _mount_terminals(dev)


def _mount_terminals(dev: Path) -> None:
    """Pseudo terminals of the command's own. Each belongs to who opens it, whose alone its mode is."""
    (dev / "pts").mkdir()
    syscalls.mount("devpts", dev / "pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, _TERMINALS)
    # As the devices above: of this one, root's opam may not change the mode, and a user could.
    syscalls.mount(dev / "pts/ptmx", dev / "pts/ptmx", flags=syscalls.MS_BIND)
    syscalls.make_read_only(dev / "pts/ptmx")
    os.symlink("pts/ptmx", dev / "ptmx")


def make_masks(masks: Path) -> None:
    """Make an empty directory one for `Shown.masks`."""
    (masks / "file").touch(0)
    (masks / "directory").mkdir(0)


def _close(root: Path, shown: Shown) -> None:
    """Put an empty file or directory that nobody may open in the place of what is hidden."""
    masks = {closed.HIDDEN_FILE: str(shown.masks / "file"), closed.HIDDEN_DIRECTORY: str(shown.masks / "directory")}
    # As mounts of a read-only mount, they are read-only.
    syscalls.mount(shown.masks, shown.masks, flags=syscalls.MS_BIND)
    syscalls.make_read_only(shown.masks)
    for name, what in shown.closed:
        if what in masks:
            _bind(root, masks[what], name)
            continue
        with view_files.mount_point(root, name) as point:
            syscalls.mount(point, point, flags=syscalls.MS_BIND)
        with view_files.mount_point(root, name) as point:
            flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | syscalls.MS_NOEXEC
            syscalls.mount("none", point, flags=flags | syscalls.locked_flags(point))
