"""A user namespace for somebody without privileges, in which a container finds the ids that its image names."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Optional, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.running.image_config import Ids
from opam_sandbox.sandbox import syscalls

_IDS = 65536

# (first id inside, first id outside, number)
IdMap = List[Tuple[int, int, int]]


def enter(ids: Ids) -> Ids:
    """Move this process into a user namespace in which it is root; returns the ids to run the container's command as.

    The calling user, who owns the unpacked layers, becomes the image's user; all others are subordinate ids of the calling
    user. Where there are none, the command runs as the one id that there is. Raises ToolError.
    """
    uid, gid = os.geteuid(), os.getegid()
    uids = _map(ids.uid, uid, _range("/etc/subuid", uid))
    gids = _map(ids.gid, gid, _range("/etc/subgid", uid))
    helpers = bool(shutil.which("newuidmap") and shutil.which("newgidmap"))
    pid = os.getpid()
    if uids is None or gids is None or not helpers:
        if ids.uid:
            print(
                "note: without `newuidmap` (Debian's uidmap) and a range of ids for you in /etc/subuid and /etc/subgid "
                "the command runs as root of its namespace, not as the image's user.",
                file=sys.stderr,
            )
        _unshare()
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        return Ids(0, 0, ())
    go_read, go_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        # Stays outside: the maps are written from there.
        os.close(go_write)
        os.read(go_read, 1)
        done = 1
        try:
            _newidmap("newuidmap", pid, uids)
            _newidmap("newgidmap", pid, gids)
            done = 0
        except (OSError, subprocess.SubprocessError) as error:
            print(f"error: {error}", file=sys.stderr)
        finally:
            os._exit(done)
    os.close(go_read)
    _unshare()
    os.close(go_write)
    if os.waitpid(helper, 0)[1] != 0:
        raise ToolError("the ids of /etc/subuid and /etc/subgid cannot be mapped (newuidmap, newgidmap)")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return ids


def _unshare() -> None:
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError as error:
        raise ToolError(
            f"the kernel gives no user namespace ({error.strerror}), which running without root needs: "
            "`sysctl -w user.max_user_namespaces=15000` (as root), or run as root."
        ) from None


def _newidmap(program: str, pid: int, mapping: IdMap) -> None:
    numbers = [str(number) for line in mapping for number in line]
    subprocess.run([program, str(pid), *numbers], check=True, stdin=subprocess.DEVNULL)


def _range(path: str, uid: int) -> Optional[Tuple[int, int]]:
    """The first range of subordinate ids of a user that is large enough: (start, number)."""
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
        if owner in (name, str(uid)) and start.isdigit() and count.isdigit() and int(count) >= _IDS - 1:
            return int(start), int(count)
    return None


def _map(inside: int, outside: int, subordinate: Optional[Tuple[int, int]]) -> Optional[IdMap]:
    """0 ... 65535 inside, of which `inside` is `outside` and the others are subordinate ids."""
    if subordinate is None or not 0 <= inside < _IDS:
        return None
    start, _ = subordinate
    lines = [(0, start, inside), (inside, outside, 1), (inside + 1, start + inside, _IDS - 1 - inside)]
    return [line for line in lines if line[2]]
