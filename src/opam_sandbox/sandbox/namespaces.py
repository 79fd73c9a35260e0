"""Namespaces: runs a function as process 1 of fresh mount, PID, IPC, UTS and network namespaces.

As root the namespaces are made directly; a user without privileges gets a user namespace first, in which that
user alone is mapped, to root. When the calling process ends, for whatever reason, the kernel kills everything inside.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import sys
import traceback
from pathlib import Path
from typing import Callable

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.sandbox import privileges, syscalls
from opam_sandbox.sandbox.user_namespace import foreign_ids, unshare_user


def is_rootless() -> bool:
    """Whether this process (outside of any namespace of ours) lacks root's privileges."""
    return os.geteuid() != 0


def run_isolated(main: Callable[[], int], foreign: bool = False) -> int:
    """Run `main` inside and return its exit status. Raises ToolError where the kernel gives no namespaces.

    foreign: in a user namespace whose ids own nothing of the host's, for root as well, and in a control group namespace.
    `main` still has its old ids there, and is to become root once it needs them no more (`os.setresuid(0, 0, 0)`).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # A caller that ignores it would have the kernel forget how children ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(_guarded(lambda: _enter(parent, main, foreign)))
    return _wait(child)


def _wait(child: int) -> int:
    _, status = os.waitpid(child, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    return code


def _guarded(main: Callable[[], int]) -> int:
    """Exit status of `main`; a forked child must never return into its parent's code."""
    try:
        code = main()
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2 if isinstance(error, RequestError) else 1
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _die_with(parent: int) -> None:
    syscalls.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(137)  # the parent ended before the line above


def _enter(parent: int, main: Callable[[], int], foreign: bool) -> int:
    flags = (
        syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWPID
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWUTS
        | syscalls.CLONE_NEWNET
    )
    rootless = is_rootless()
    uid, gid = os.geteuid(), os.getegid()
    try:
        if foreign:
            unshare_user(*foreign_ids(uid))
            syscalls.unshare(flags | syscalls.CLONE_NEWCGROUP)
        else:
            syscalls.unshare(flags | (syscalls.CLONE_NEWUSER if rootless else 0))
            if rootless:
                _map_self("/proc/self", 0, uid, 0, gid)
    except OSError as error:
        raise ToolError(_no_namespaces(error, rootless)) from None
    _die_with(parent)
    middle = os.getpid()
    child = os.fork()
    if child == 0:

        def inner() -> int:
            # In the new PID namespace the parent has no number: 0 means that it is alive but outside.
            syscalls.die_with_parent(signal.SIGKILL)
            syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
            socket.sethostname("localhost")
            os.umask(0o022)  # modes of what is made here end up in layers
            _loopback_up()
            privileges.leave_keyring()
            # What has no handler does not come to process 1 from inside.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            return main()

        os._exit(_guarded(inner))
    assert middle == os.getpid()
    return _wait(child)


def kill_stragglers() -> None:
    """Inside: end every other process of the namespace, such as daemons that a build started and left."""
    assert os.getpid() == 1, "outside, these would be all of the machine's"
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def _map_self(proc: str, inside_uid: int, uid: int, inside_gid: int, gid: int) -> None:
    """Write the calling process's own user and group maps: one id each."""
    Path(proc, "setgroups").write_text("deny")
    Path(proc, "uid_map").write_text(f"{inside_uid} {uid} 1")
    Path(proc, "gid_map").write_text(f"{inside_gid} {gid} 1")


def become_mapped(uid: int, gid: int) -> None:
    """Inside a one-user namespace: appear as `uid`:`gid` through a user namespace nested in it. /proc must be mounted."""
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    _map_self("/proc/self", uid, 0, gid, 0)


def _loopback_up() -> None:
    """Bring up `lo`, the only interface there is: programs may talk to themselves, and to nobody else."""
    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(control, siocgifflags, request))[1]
        fcntl.ioctl(control, siocsifflags, struct.pack("16sh22x", b"lo", flags | iff_up))


def _no_namespaces(error: OSError, rootless: bool) -> str:
    message = f"the kernel gives no namespaces for the build's sandbox ({error.strerror}). "
    if not rootless:
        return message + (
            "This process is root but lacks CAP_SYS_ADMIN, as in a container without privileges: "
            "run the container with `--privileged`, or with `--cap-add SYS_ADMIN --security-opt seccomp=unconfined`."
        )
    return message + (
        "User namespaces must be allowed: `sysctl -w user.max_user_namespaces=15000`, on older Debian "
        "`sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`."
    )
