"""What processes of a sandbox may keep of their maker: capabilities, keys, set-uid programs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Dict, FrozenSet, Mapping

from opam_sandbox.sandbox import syscalls

SYS_ADMIN = 21

# What dpkg and maintainer scripts need (numbers of linux/capability.h): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID,
# SETUID, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP. What leads out is not among them: above all SYS_ADMIN, SYS_PTRACE, MKNOD and
# DAC_READ_SEARCH, by which open_by_handle_at reads any file of a file system of which one file is bound.
DPKG: FrozenSet[int] = frozenset((0, 1, 3, 4, 5, 6, 7, 10, 18, 31))


def keep_only(capabilities: FrozenSet[int]) -> None:
    """Cut this process's bounding set: what it starts, and set-uid programs, never have any other. Raises OSError."""
    for number in range(64):
        if number in capabilities:
            continue
        try:
            syscalls.drop_capability(number)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the kernel's last capability has a lower number
                return
            raise


def leave_keyring() -> None:
    """Give this process an empty session keyring in place of its caller's, whose keys it could read. Raises OSError."""
    try:
        syscalls.join_session_keyring()
    except OSError as error:
        # A kernel without keys, or a container engine that lets nobody near them: there are none to read.
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise


def same_ids() -> Dict[str, bytes]:
    """What `map_ids` is to write for a user namespace with the ids of this one. Raises OSError."""
    found = {}
    for kind in ("uid", "gid"):
        ranges = [line.split() for line in Path(f"/proc/self/{kind}_map").read_text().splitlines()]
        found[kind] = "".join(f"{inside} {inside} {count}\n" for inside, _, count in ranges).encode()
    return found


def map_ids(pid: int, ids: Mapping[str, bytes]) -> None:
    """Give a process's new user namespace its ids. /proc must be of this PID namespace. Raises OSError."""
    for kind, text in ids.items():
        descriptor = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text)
        finally:
            os.close(descriptor)
