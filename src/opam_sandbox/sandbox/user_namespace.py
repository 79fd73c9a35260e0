"""User namespaces with many ids: which ids of the outside they may have, and how they are made."""

from __future__ import annotations

import errno
import os
import pwd
import sys
from pathlib import Path
from typing import List, Optional, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox import syscalls

IDS = 65536

# What a user does to whom the kernel gives none, for messages.
HOW_TO_ALLOW = (
    "User namespaces must be allowed: `sysctl -w user.max_user_namespaces=15000`, on older Debian "
    "`sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`. "
    "In a chroot there are none."
)

# (first id inside, first id outside, number)
IdMap = List[Tuple[int, int, int]]

# The last block of the ids that systemd's list of ids (UIDS-GIDS) sets aside for containers: no account has them.
_CONTAINER_IDS = 0x6FFF0000


def unshare_user(uids: IdMap, gids: IdMap) -> None:
    """Move this process into a user namespace with these ids. It has all capabilities there, and still its old ids.

    root's maps are written by a process that stays outside; a user's by newuidmap and newgidmap. Raises OSError where the
    kernel gives no user namespace, ToolError where the ids cannot be mapped.
    """
    pid, by_root = os.getpid(), os.geteuid() == 0
    go_read, go_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        # Stays outside: the maps are written from there.
        os.close(go_write)
        done = 1
        try:
            if os.read(go_read, 1):
                _write_map("uid", pid, uids, by_root)
                _write_map("gid", pid, gids, by_root)
                done = 0
        except Exception as error:
            print(f"error: {error}", file=sys.stderr)
        finally:
            os._exit(done)
    os.close(go_read)
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        os.write(go_write, b"x")
    finally:
        os.close(go_write)
        status = os.waitpid(helper, 0)[1]
    if status != 0:
        raise ToolError(
            "the ids of a user namespace cannot be mapped"
            + ("" if by_root else " (newuidmap, newgidmap, /etc/subuid and /etc/subgid)")
        )


def subordinate_range(path: str, uid: int) -> Optional[Tuple[int, int]]:
    """The first range of subordinate ids of a user in a file such as /etc/subuid that is large enough: (start, number)."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        owner, _, numbers = line.partition(":")
        start, _, count = numbers.partition(":")
        if owner in (name, str(uid)) and start.isdigit() and count.isdigit() and int(count) >= IDS - 1:
            return int(start), int(count)
    return None


def foreign_ids(uid: int) -> Tuple[IdMap, IdMap]:
    """Maps for users and groups: 0 ... 65535 inside, outside ids that own nothing of the host's.

    uid: the caller's outside. root takes ids set aside for containers; where this namespace lacks them, as many as it has.
    Raises ToolError for a user without subordinate ids.
    """
    if uid == 0:
        return _unowned("/proc/self/uid_map"), _unowned("/proc/self/gid_map")
    maps: List[IdMap] = []
    for path in ("/etc/subuid", "/etc/subgid"):
        found = subordinate_range(path, uid)
        if found is None:
            raise ToolError(f"{path} has no range of {IDS} ids for you, which the base's sandbox needs")
        maps.append([(0, found[0], min(IDS, found[1]))])
    return maps[0], maps[1]


def own_and_subordinate_ids(uid: int, gid: int) -> Optional[Tuple[IdMap, IdMap]]:
    """Maps for users and groups: 0 inside is the user himself, the ids from 1 on are his subordinate ones. None for a user who
    has none, or where what maps them is not installed."""
    import shutil  # without subordinate ids, nothing waits for it

    maps: List[IdMap] = []
    for file, program, own in (("/etc/subuid", "newuidmap", uid), ("/etc/subgid", "newgidmap", gid)):
        found = subordinate_range(file, uid)
        if found is None or shutil.which(program) is None:
            return None
        maps.append([(0, own, 1), (1, found[0], min(IDS - 1, found[1]))])
    return maps[0], maps[1]


def remove_tree_of_subordinates(path: Path) -> None:
    """Remove a tree with files of this user and of the user's subordinate ids, as root of a user namespace that has them.

    Raises PermissionError where the tree is still there afterwards.
    """
    uid = os.geteuid()
    maps: List[IdMap] = []
    for file, own in (("/etc/subuid", uid), ("/etc/subgid", os.getegid())):
        start, count = subordinate_range(file, uid) or (0, 0)
        maps.append([line for line in ((0, own, 1), (1, start, count)) if line[2]])
    child = os.fork()
    if child == 0:
        try:
            unshare_user(*maps)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            remove_tree(path)
        except (OSError, ToolError):
            pass  # the caller sees what is left
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if os.path.lexists(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))


def _unowned(path: str) -> IdMap:
    ranges = [tuple(int(number) for number in line.split()) for line in Path(path).read_text().splitlines()]
    for inside, _, count in ranges:
        if inside <= _CONTAINER_IDS and _CONTAINER_IDS + IDS <= inside + count:
            return [(0, _CONTAINER_IDS, IDS)]
    # A container's root: its namespace has few ids, and its 0 is not the machine's.
    return [(inside, inside, min(count, IDS - inside)) for inside, _, count in ranges if inside < IDS]


def _write_map(kind: str, pid: int, mapping: IdMap, by_root: bool) -> None:
    if by_root:
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in mapping)
        Path(f"/proc/{pid}/{kind}_map").write_text(text)
        return
    numbers = [str(number) for line in mapping for number in line]
    import subprocess  # root needs none

    subprocess.run([f"new{kind}map", str(pid), *numbers], check=True, stdin=subprocess.DEVNULL)
