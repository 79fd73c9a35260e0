"""A user namespace for somebody without privileges, in which a container finds the ids that its image names."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Optional, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.running.image_config import Ids
from opam_sandbox.sandbox import syscalls
from opam_sandbox.sandbox.user_namespace import HOW_TO_ALLOW, IDS, IdMap, subordinate_range, unshare_user


def enter(ids: Ids, exactly: bool = False) -> Ids:
    """Move this process into a user namespace in which it is root; returns the ids to run the container's command as.

    The calling user, who owns the unpacked layers, becomes the image's user; all others are subordinate ids of the calling
    user. Where there are none, the command runs as the one id that there is; with `exactly`, that is an error. Raises ToolError.
    """
    try:
        return _enter(ids, os.geteuid(), os.getegid(), exactly)
    except OSError as error:
        raise no_namespaces(error, rootless=True) from None


def _enter(ids: Ids, uid: int, gid: int, exactly: bool) -> Ids:
    uids = _map(ids.uid, uid, subordinate_range("/etc/subuid", uid))
    gids = _map(ids.gid, gid, subordinate_range("/etc/subgid", uid))
    helpers = bool(shutil.which("newuidmap") and shutil.which("newgidmap"))
    if uids is None or gids is None or not helpers:
        if exactly and ids != Ids(0, 0, ()):
            raise ToolError(
                f"this machine has no id {ids.uid}:{ids.gid} to run a command of the image as: it takes `newuidmap` (Debian's "
                "uidmap), and a range of 65,536 ids for you in /etc/subuid and /etc/subgid"
            )
        if ids.uid:
            print(
                "note: without `newuidmap` (Debian's uidmap) and a range of ids for you in /etc/subuid and /etc/subgid "
                "the command runs as root of its namespace, not as the image's user.",
                file=sys.stderr,
            )
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        return Ids(0, 0, ())
    unshare_user(uids, gids)
    # A security module may let a namespace be, and nothing be done in it.
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return ids


def no_namespaces(error: OSError, rootless: bool) -> ToolError:
    """The error for a machine that gives none, or lets nothing be done in them."""
    need = (
        HOW_TO_ALLOW
        if rootless
        else "This process is root but lacks CAP_SYS_ADMIN, as in a container without privileges."
    )
    return ToolError(f"the kernel gives no namespaces to run the image in ({error.strerror}). {need}")


def _map(inside: int, outside: int, subordinate: Optional[Tuple[int, int]]) -> Optional[IdMap]:
    """0 ... 65535 inside, of which `inside` is `outside` and the others are subordinate ids."""
    if subordinate is None or not 0 <= inside < IDS:
        return None
    start, _ = subordinate
    lines = [(0, start, inside), (inside, outside, 1), (inside + 1, start + inside, IDS - 1 - inside)]
    return [line for line in lines if line[2]]
