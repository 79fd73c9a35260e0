"""Namespaces: runs a function as process 1 of fresh mount, PID, IPC, UTS and network namespaces.

As root the namespaces are made directly; a user without privileges gets a user namespace first, in which that
user alone is mapped, to root. When the calling process ends, for whatever reason, the kernel kills everything inside.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Callable, Sequence

from opam_sandbox import machine_errors
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.sandbox import privileges, syscalls
from opam_sandbox.sandbox.user_namespace import HOW_TO_ALLOW, foreign_ids, own_and_subordinate_ids, unshare_user


def is_rootless() -> bool:
    """Whether this process (outside of any namespace of ours) lacks root's privileges."""
    return os.geteuid() != 0


# What a terminal, a supervisor or Pants sends to end this process.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Signal(Exception):
    """A signal came. Its number is the argument."""


class Ended(ToolError):
    """A signal, `number`, has ended what ran inside."""

    def __init__(self, number: int) -> None:
        super().__init__(f"this process was ended by {signal.Signals(number).name}")
        self.number = number


def run_isolated(
    main: Callable[[], int],
    foreign: bool = False,
    subordinates: bool = False,
    network: bool = False,
    signals: Sequence[signal.Signals] = _ENDING,
) -> int:
    """Run `main` inside and return its exit status. Raises ToolError where the kernel gives no namespaces, Ended where one of
    `signals` came: then all that runs inside is being killed.

    network: the machine's.

    foreign: in a user namespace whose ids own nothing of the host's, for root as well, and in a control group namespace.
    `main` still has its old ids there, and is to become root once it needs them no more (`os.setresuid(0, 0, 0)`).
    subordinates: a user is root inside and has the other ids as well, by those of /etc/subuid and /etc/subgid, if there are any.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(_guarded(lambda: _enter(parent, main, foreign, subordinates, network)))
    before = {number: signal.signal(number, _end) for number in signals}
    try:
        _watch(child)
        return _wait(child)
    except _Signal as came:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise Ended(came.args[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> None:
    raise _Signal(number)


def _watch(child: int) -> None:
    """Wait until the child has ended. If this process's caller ends before, kill the child: nobody wants its work any more.

    (PR_SET_PDEATHSIG is no way to hear of that: it tells of the end of the caller's thread, and Pants has many.)
    """
    caller = os.getppid()
    try:
        handles = [os.pidfd_open(pid) for pid in (child, caller)]
    except (AttributeError, OSError):
        return  # before Linux 5.3; or the caller, outside of this process's PID namespace, has no number
    try:
        if os.getppid() == caller:
            # select(2) takes no descriptor above 1023, and the caller may have left open as many as it likes.
            poll = select.poll()
            for handle in handles:
                poll.register(handle, select.POLLIN)
            if handles[0] in (handle for handle, _ in poll.poll()):
                return
        os.kill(child, signal.SIGKILL)
    finally:
        for handle in handles:
            os.close(handle)


def _wait(child: int) -> int:
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    why = ", as the kernel does when memory is short" if number == signal.SIGKILL else ""
    print(f"error: a process of the build's sandbox was killed by signal {number}{why}", file=sys.stderr)
    return 128 + number


def _guarded(main: Callable[[], int]) -> int:
    """Exit status of `main`; a forked child must never return into its parent's code."""
    try:
        code = main()
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2 if isinstance(error, RequestError) else 1
    except BaseException as error:
        import subprocess  # builds start nothing by it, and to import it takes long

        text, code = machine_errors.explained(error), 1
        if isinstance(error, subprocess.SubprocessError):
            # Of what a child could not do before it became a program, Python says no more than this.
            text = ToolError(_no_use_of_capabilities(error))
        if text is None:
            import traceback

            traceback.print_exc()
            code = 70
        else:
            print(f"error: {text}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _die_with(parent: int) -> None:
    syscalls.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(137)  # the parent ended before the line above


def _enter(parent: int, main: Callable[[], int], foreign: bool, subordinates: bool, network: bool) -> int:
    flags = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    if not network:
        flags |= syscalls.CLONE_NEWNET
    rootless = is_rootless()
    uid, gid = os.geteuid(), os.getegid()
    many = own_and_subordinate_ids(uid, gid) if rootless and subordinates else None
    try:
        if foreign:
            unshare_user(*foreign_ids(uid))
            syscalls.unshare(flags | syscalls.CLONE_NEWCGROUP)
        elif many:
            unshare_user(*many)
            syscalls.unshare(flags)
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
            try:
                _settle_in(network)
            except OSError as error:
                raise ToolError(_no_use_of_namespaces(error)) from None
            # What has no handler does not come to process 1 from inside.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            return main()

        os._exit(_guarded(inner))
    assert middle == os.getpid()
    return _wait(child)


def _settle_in(network: bool) -> None:
    # In the new PID namespace the parent has no number: 0 means that it is alive but outside.
    syscalls.die_with_parent(signal.SIGKILL)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.set_host_name(b"localhost")
    os.umask(0o022)  # modes of what is made here end up in layers
    if not network:
        _loopback_up()
    privileges.leave_keyring()


def has_many_ids() -> bool:
    """Inside: whether files can be given to others than root."""
    return all(
        sum(int(line.split()[2]) for line in Path(f"/proc/self/{kind}_map").read_text().splitlines()) > 1
        for kind in ("uid", "gid")
    )


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
    control = syscalls.open_datagram_socket()
    try:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(control, siocgifflags, request))[1]
        fcntl.ioctl(control, siocsifflags, struct.pack("16sh22x", b"lo", flags | iff_up))
    finally:
        os.close(control)


def _no_namespaces(error: OSError, rootless: bool) -> str:
    message = f"the kernel gives no namespaces for the build's sandbox ({error.strerror}). "
    if not rootless:
        return message + (
            "This process is root but lacks CAP_SYS_ADMIN, as in a container without privileges: "
            "run the container with `--privileged`, or with `--cap-add SYS_ADMIN --security-opt seccomp=unconfined`."
        )
    return message + HOW_TO_ALLOW


def _no_use_of_namespaces(error: OSError) -> str:
    return (
        f"the build's sandbox has namespaces, but may not do in them what it needs ({error.strerror}). A security module such "
        "as AppArmor or SELinux forbids it: on Ubuntu `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, in a "
        "container `--security-opt apparmor=unconfined` or `--security-opt label=disable`."
    )


def _no_use_of_capabilities(error: Exception) -> str:
    return (
        f"a program cannot be started in the build's sandbox ({error}). Root may lack capabilities for it, as in a container "
        "with `--cap-drop`: CAP_SETUID, CAP_SETGID, CAP_SETPCAP and CAP_SYS_CHROOT are needed besides CAP_SYS_ADMIN."
    )
