"""Runs one command in a view: its processes, and what they may do.

    this process
      the outer one    stays outside of the view, and copies what the command prints into the log
        the first one  process 1 of a PID namespace, in the view: mounts it, reaps; when it ends, the kernel ends all below
          the command

A command gets no descriptor of a file outside of the view. It could change that file's mode by it, and learn where it lies.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, NoReturn, Optional, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import control_group, limits, privileges, seccomp, syscalls
from opam_sandbox.sandbox.control_group import ControlGroup
from opam_sandbox.sandbox.namespaces import become_mapped, kill_stragglers

OPAM_UID = 1000

# As shells have it.
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


@dataclass(frozen=True)
class Command:
    """user: it runs as opam, else as root. log, stdout: descriptors of this process; without `stdout`, all goes to the log."""

    argv: Sequence[str]
    env: Dict[str, str]
    cwd: str
    user: bool
    rootless: bool
    log: int
    stdout: Optional[int] = None


def run(command: Command, mount: Callable[[], Path]) -> int:
    """Run the command to its end, and end whatever it left; returns its exit status, 128 + N for a signal.

    mount: called in a mount namespace of the command's own; gives the directory that is to be the root. Raises ToolError.
    """
    told, tell = os.pipe()
    group = None if command.rootless else control_group.make()
    try:
        outer = _fork(lambda: _outer(command, mount, group, tell), tell)
        os.close(tell)
        status = os.waitpid(outer, 0)[1]
        if os.WIFSIGNALED(status):
            kill_stragglers()  # what it was to wait for
        with open(told, "rb", closefd=False) as messages:
            message = messages.read().decode(errors="replace")
        problem = group.problem() if group else ""
    finally:
        os.close(told)
        if group:
            group.remove()
    if message or problem:
        raise ToolError(
            message or f"`{' '.join(command.argv[:2])}` did not get what it needs of this machine: {problem}"
        )
    return _exit_code(status)


def _fork(main: Callable[[], int], tell: int) -> int:
    """The pid of a child that runs `main`, and never returns into its parent's code. An error goes to `tell`."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = main()
    except ToolError as error:
        os.write(tell, str(error).encode())
    except BaseException as error:
        os.write(tell, f"a command's sandbox: {error}".encode())
    finally:
        os._exit(code)


def _exit_code(status: int) -> int:
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _outer(command: Command, mount: Callable[[], Path], group: Optional[ControlGroup], tell: int) -> int:
    syscalls.die_with_parent(signal.SIGKILL)
    if group:
        group.enter()
    log_read, log_write = os.pipe()
    copies = {log_read: command.log}
    out_write = log_write
    if command.stdout is not None:
        out_read, out_write = os.pipe()
        copies[out_read] = command.stdout
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWCGROUP)
    first = _fork(lambda: _first(command, mount, out_write, log_write, tell), tell)
    for descriptor in {log_write, out_write}:
        os.close(descriptor)
    try:
        _copy(copies)
    except OSError as error:
        raise ToolError(f"what a command prints cannot be written: {error.strerror}") from None
    return _exit_code(os.waitpid(first, 0)[1])


def _copy(copies: Dict[int, int]) -> None:
    """Copy what comes from pipes until nobody has their other ends. Raises OSError."""
    poll = select.poll()
    for descriptor in copies:
        poll.register(descriptor, select.POLLIN)
    left = len(copies)
    while left:
        for descriptor, _ in poll.poll():
            data = os.read(descriptor, 1 << 16)
            if not data:
                poll.unregister(descriptor)
                left -= 1
            while data:
                data = data[os.write(copies[descriptor], data) :]


def _first(command: Command, mount: Callable[[], Path], out: int, log: int, tell: int) -> int:
    syscalls.die_with_parent(signal.SIGKILL)
    os.setsid()  # the caller's terminal is not the command's
    root = mount()
    # pivot_root rather than chroot: afterwards there is no way back, the old root is not even mounted.
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
    os.umask(0o022)
    privileges.keep_only(privileges.DPKG)
    syscalls.no_new_privileges()
    # This process is a copy of the tool's, its memory, environment and descriptors included.
    syscalls.hide_from_others()
    if command.user and not command.rootless:
        for descriptor in {out, log}:
            os.chown(descriptor, OPAM_UID, OPAM_UID)  # /dev/stdout is opened by its name at times
    asked, ask = os.pipe()
    answered, answer = os.pipe()
    child = _fork(lambda: _become(command, out, log, tell, ask, answered), tell)
    syscalls.close_descriptors({asked, answer, tell})
    if os.read(asked, 1):
        privileges.map_same_ids(child)
        os.write(answer, b"x")
    syscalls.close_descriptors({tell})
    if command.user and not command.rootless:
        _become_opam()  # whose signals come to it, as they do without privileges
        syscalls.die_with_parent(signal.SIGKILL)  # a change of ids cleared it
    _forget_handlers()  # what is not handled, the kernel keeps from process 1
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return _exit_code(status)


def _become(command: Command, out: int, log: int, tell: int, ask: int, answered: int) -> NoReturn:
    """Become the command."""
    null = os.open("/dev/null", os.O_RDONLY)  # the view's: it cannot be changed
    for descriptor, number in ((null, 0), (out, 1), (log, 2)):
        os.dup2(descriptor, number)
    syscalls.hide_from_others(False)  # its files in /proc would be nobody's; there is nobody else yet
    limits.set_limits()
    if command.user and command.rootless:
        become_mapped(OPAM_UID, OPAM_UID)
        limits.limit_processes()
    elif command.user:
        own_namespace = _unshare_user(ask, answered)
        _become_opam()
        if own_namespace:
            limits.limit_processes()
    else:
        limits.limit_processes()
    os.chdir(command.cwd)
    syscalls.close_descriptors({0, 1, 2, tell})
    _forget_handlers()
    seccomp.load(ids=command.user)
    try:
        os.execvpe(command.argv[0], list(command.argv), command.env)
    except OSError as error:
        os.write(2, f"{command.argv[0]}: {error.strerror}\n".encode())
        os._exit(_NOT_FOUND if isinstance(error, (FileNotFoundError, NotADirectoryError)) else _NOT_EXECUTABLE)


def _become_opam() -> None:
    os.setgroups([])
    os.setresgid(OPAM_UID, OPAM_UID, OPAM_UID)
    os.setresuid(OPAM_UID, OPAM_UID, OPAM_UID)


def _forget_handlers() -> None:
    for number in range(1, signal.NSIG):
        # None: set by nobody in Python, which the numbers of libc's own signals are.
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _unshare_user(ask: int, answered: int) -> bool:
    """Have a user namespace, with the same ids, for what the kernel counts by namespace. Says whether there is one."""
    with suppress(OSError):  # they may be forbidden
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        os.write(ask, b"x")
        if not os.read(answered, 1):
            raise ToolError("the ids of a command's user namespace cannot be mapped")
        return True
    return False
