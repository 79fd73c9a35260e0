"""The processes of a command inside of its view: see `command`.

The first one is process 1 of a PID namespace. It mounts the view, reaps what the command leaves behind, and when it ends, the
kernel ends all below. The command is its child, which gives up what it may not have and then becomes the program.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Callable, Dict, NamedTuple, NoReturn, Optional, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import limits, privileges, seccomp, syscalls
from opam_sandbox.sandbox.control_group import ControlGroup
from opam_sandbox.sandbox.namespaces import become_mapped

OPAM_UID = 1000

# As shells have it.
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
# What a child asks for: the ids of its user namespace.
_NAMESPACE = b"n"


class Command(NamedTuple):
    """user: it runs as opam, else as root. log, stdout: descriptors of this process; without `stdout`, all goes to the log.
    person: it has this process's own three streams, by pipes, or by a terminal of its own where they are one."""

    argv: Sequence[str]
    env: Dict[str, str]
    cwd: str
    user: bool
    rootless: bool
    log: int
    stdout: Optional[int] = None
    person: bool = False

    @property
    def gives_up_root(self) -> bool:
        """Whether its process is root, and has to become opam. Without privileges it is shown as opam (`become_mapped`)."""
        return self.user and not self.rootless


def fork(work: Callable[[], int], tell: int) -> int:
    """The pid of a child that does `work`, and never returns into its parent's code. An error goes to `tell`."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = work()
    except ToolError as error:
        os.write(tell, str(error).encode())
    except BaseException as error:
        os.write(tell, f"a command's sandbox: {error}".encode())
    finally:
        os._exit(code)


def exit_code(status: int) -> int:
    """Of a process, as shells have it, by the status that waitpid gives."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def main(
    command: Command,
    mount: Callable[[], Path],
    group: Optional[ControlGroup],
    out: int,
    log: int,
    tell: int,
    into: Optional[int] = None,
) -> int:
    """Be the first process, with the command as its child: returns that one's exit status.

    mount: see `command.run`. out, log, tell: descriptors to write to, for the command's standard output and errors, and for an
    error of the sandbox. into: what is the command's standard input. Raises ToolError, OSError."""
    syscalls.die_with_parent(signal.SIGKILL)
    if group:
        group.enter()
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP)
    os.setsid()  # the caller's terminal is not the command's
    privileges.keep_only(privileges.DPKG)
    syscalls.no_new_privileges()
    asked, ask = os.pipe()
    answered, answer = os.pipe()
    # It gets ready while this process mounts.
    child = fork(lambda: _become(command, out, log, tell, ask, answered, into), tell)
    # By the caller's /proc: meanwhile, not when the child waits for it.
    ids = privileges.same_ids() if command.gives_up_root else {}
    root = mount()
    # The kernel gives no user namespace to a process whose root directory is not its mount namespace's, which is so for a moment
    # while pivot_root moves the child: it is to have its own before.
    os.close(ask)
    wish = os.read(asked, 1)
    # pivot_root rather than chroot: afterwards there is no way back, the old root is not even mounted. It moves the child, too.
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
    os.umask(0o022)
    # This process is a copy of the tool's, its memory, environment and descriptors included.
    syscalls.hide_from_others()
    if command.gives_up_root:
        for descriptor in {out, log}:
            os.chown(descriptor, OPAM_UID, OPAM_UID)  # /dev/stdout is opened by its name at times
    syscalls.close_descriptors({answer, tell})
    if wish == _NAMESPACE:
        privileges.map_ids(child, ids)
    if wish:  # else it has failed, and said why
        os.write(answer, b"x")
    syscalls.close_descriptors({tell})
    if command.gives_up_root:
        _become_opam()  # whose signals come to it, as they do without privileges
        syscalls.die_with_parent(signal.SIGKILL)  # a change of ids cleared it
    _forget_handlers()  # what is not handled, the kernel keeps from process 1
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return exit_code(status)


def _become(
    command: Command, out: int, log: int, tell: int, ask: int, answered: int, into: Optional[int] = None
) -> NoReturn:
    """Become the command, once this process is in the view. into: what is its standard input."""
    limits.set_limits()
    own_namespace = True
    if command.user and command.rootless:
        become_mapped(OPAM_UID, OPAM_UID)
    elif command.user:
        own_namespace = _unshare_user()
    if command.user and own_namespace:
        privileges.keep_only(privileges.DPKG)  # in a new namespace everything is in the bounding set
    os.write(ask, _NAMESPACE if command.gives_up_root and own_namespace else b"x")
    if not os.read(answered, 1):
        os._exit(1)  # there is no view; the parent has said why
    if into is None:
        into = os.open("/dev/null", os.O_RDONLY)  # the view's: it cannot be changed
    for descriptor, number in ((into, 0), (out, 1), (log, 2)):
        os.dup2(descriptor, number)
    if command.person:
        _take_terminal()
    if command.gives_up_root:
        _become_opam()
    if own_namespace:
        limits.limit_processes()
    os.umask(0o022)
    os.chdir(command.cwd)
    syscalls.close_descriptors({0, 1, 2, tell})
    _forget_handlers()
    seccomp.load(ids=command.user)
    try:
        os.execvpe(command.argv[0], list(command.argv), command.env)
    except OSError as error:
        os.write(2, f"{command.argv[0]}: {error.strerror}\n".encode())
        os._exit(_NOT_FOUND if isinstance(error, (FileNotFoundError, NotADirectoryError)) else _NOT_EXECUTABLE)


def _take_terminal() -> None:
    """Have the terminal that standard input is, if it is one, control this process: its keys send signals, shells have jobs."""
    if os.isatty(0):
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


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


def _unshare_user() -> bool:
    """Have a user namespace, for what the kernel counts by namespace. Its ids are still to be mapped. Says whether it has one."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError:  # they may be forbidden
        return False
    return True
