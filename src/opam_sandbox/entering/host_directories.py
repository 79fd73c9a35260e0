"""Directories of the machine that a command sees: where they may be shown, and whose the files in them are.

What a command writes into one belongs to the directory's owner on the machine, who is the caller wherever that is not root.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from opam_sandbox.entering import id_mapped
from opam_sandbox.entering.requests import Mount
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.sandbox import closed, view_files
from opam_sandbox.sandbox.first_process import OPAM_UID
from opam_sandbox.sandbox.overlay import HOME
from opam_sandbox.sandbox.view import View

_OPAM = (OPAM_UID, OPAM_UID)
# Directories for scratch files, which each command has of its own, by the names of `Overlay.scratch_files`.
_PLACES = ("tmp", "var/tmp", "dev/shm", "run/lock")
_KERNELS = ("proc", "sys", "dev")


class HostDirectory(NamedTuple):
    """source: its real path; target: where it is shown, relative to the view's root. users: the descriptor of a user namespace
    that maps its owner to opam, None where that is not needed, or cannot be."""

    source: str
    target: str
    writable: bool
    users: Optional[int]


def find(mounts: Sequence[Mount], rootless: bool) -> List[HostDirectory]:
    """The directories of a request. Outside of namespaces. Raises ToolError where one cannot be shown."""
    return [_find(mount, rootless) for mount in mounts]


def _find(mount: Mount, rootless: bool) -> HostDirectory:
    for path in (mount["source"], mount["target"]):
        if not path.startswith("/") or os.path.normpath(path) != path or "\0" in path:
            raise RequestError(f"mounts: {path!r:.200} is no absolute path")
    source, target = os.path.realpath(mount["source"]), mount["target"].strip("/")
    try:
        status = os.stat(source)
    except OSError as error:
        raise ToolError(f"{source} cannot be shown to the command: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise ToolError(f"{source} cannot be shown to the command: it is no directory")
    if not target or target in _PLACES or (target.split("/")[0] in _KERNELS and not _place_of(target)):
        raise ToolError(f"{source} cannot be shown at /{target}, where a command has something of its own")
    if rootless:
        _check_nothing_mounted(source)
        return HostDirectory(source, target, mount["writable"], None)
    users, owner = None, (status.st_uid, status.st_gid)
    if owner != _OPAM:
        try:
            users = id_mapped.namespace(owner, _OPAM)
        except (OSError, ToolError) as error:
            if mount["writable"]:
                raise _not_mapped(source, str(error)) from None
    return HostDirectory(source, target, mount["writable"], users)


def _place_of(target: str) -> str:
    return next((place for place in _PLACES if target.startswith(place + "/")), "")


def _check_nothing_mounted(source: str) -> None:
    """Without privileges, a directory is shown with all that is mounted in it or not at all."""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1"))
        if point.startswith(source.rstrip("/") + "/"):
            raise ToolError(
                f"{source} cannot be shown to the command: {point} is mounted in it, which a user cannot leave out. Show a "
                "directory without it."
            )


def check_start(cwd: str, directories: Sequence[HostDirectory]) -> None:
    """Raise ToolError where the command cannot start, as far as that is the machine's to say."""
    if not cwd.startswith("/") or "\0" in cwd:
        raise RequestError(f"cwd: {cwd!r:.200} is no absolute path")
    for one in directories:
        below = os.path.relpath(cwd, f"/{one.target}")
        if not below.startswith("..") and not os.path.isdir(os.path.join(one.source, below)):
            raise ToolError(f"there is no directory {os.path.join(one.source, below)} for the command to start in")


def show(view: View, directories: Sequence[HostDirectory]) -> None:
    """Have commands of the view see them. Raises ToolError."""
    for number, one in enumerate(directories):
        _make_place(view, one)
        source = Path(one.source)
        if one.users is not None:
            # In the frame, which is taken away before anything of the view is removed.
            mapped = view.overlay.frame / f"directory-{number}"
            mapped.mkdir()
            try:
                id_mapped.mount(one.source, mapped, one.users)
                source = mapped
            except OSError as error:
                if one.writable:
                    raise _not_mapped(one.source, error.strerror or "") from None
            os.close(one.users)
        view.overlay.bind(source, one.target, writable=one.writable)


def _make_place(view: View, one: HostDirectory) -> None:
    """Make the directory that it is shown at, and let opam come there."""
    place = _place_of(one.target)
    if view_files.names(view.root, one.target):
        raise ToolError(f"{one.source} cannot be shown at /{one.target}: the packages' own files there would be hidden")
    if place:
        # What is there in the view itself is hidden by the scratch directory.
        below = view.overlay.scratch_files / place.replace("/", "-")
        view_files.make_directories(below, one.target[len(place) + 1 :], owner=view.overlay.opam)
    if place != "tmp":
        owner = view.overlay.opam if one.target.startswith(f"{HOME}/") else None
        view_files.make_directories(view.root, one.target, owner=owner)
    parts = one.target.split("/")[:-1]
    for name in ("/".join(parts[: end + 1]) for end in range(len(parts))):
        found = None if place else view_files.status(view.root, name)
        if found and closed.kind(found.st_mode):
            # root's alone, such as /root: what is in there is the base's, and no secret.
            view_files.change_mode(view.root, name, 0o755)


def _not_mapped(source: str, why: str) -> ToolError:
    return ToolError(
        f"{source} cannot be shown so that it can be written to ({why}): its files are not opam's. As root that takes a kernel "
        "and a file system with id-mapped mounts (Linux 5.12 with ext4, xfs or btrfs; not overlayfs). Run Pants as a user, or "
        "show the directory read-only."
    )
