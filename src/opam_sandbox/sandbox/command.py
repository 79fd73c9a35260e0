"""Runs one command in a view: its processes, and what they may do.

    this process      stays outside of the view, and copies what the command prints into the log
      the first one   process 1 of a PID namespace, in the view: mounts it, reaps; when it ends, the kernel ends all below
        the command

A command gets no descriptor of a file outside of the view. It could change that file's mode by it, and learn where it lies.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Callable, Dict, NamedTuple, NoReturn, Optional, Sequence, Tuple

from opam_sandbox.errors import LimitReached, ToolError
from opam_sandbox.sandbox import control_group, limits, privileges, seccomp, syscalls, watch
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


class Looks(NamedTuple):
    """What is looked at while a command runs: see `Watch.look`."""

    watch: watch.Watch
    written: Sequence[Path]
    memories: Sequence[Path]

    def look(self, group: Optional[ControlGroup], last: bool = False) -> None:
        """Raises LimitReached. group: the command's, which may know better."""
        for limit in (watch.PROCESSES, watch.MEMORY):
            if group and getattr(self.watch.bounds, limit) and group.problem(limit):
                self.watch.raise_reached(limit)
        self.watch.look(self.written, self.memories, last)


def run(command: Command, mount: Callable[[], Path], looks: Optional[Looks] = None) -> int:
    """Run the command to its end, and end whatever it left; returns its exit status, 128 + N for a signal.

    mount: called in a mount namespace of the command's own; gives the directory that is to be the root. looks: what ends it
    before its end. Raises ToolError, LimitReached.
    """
    _know_beforehand(command)
    if command.person:
        from opam_sandbox.sandbox import streams  # no build has any

        group = _group(command, None)
        try:
            with streams.of_person() as own:
                first = _fork_first(lambda: _first(command, mount, group, own.out, own.log, own.log, own.into), own.log)
                own.start()
                own.copy(first)
                return _exit_code(os.waitpid(first, 0)[1])
        finally:
            if group:
                group.remove()
    group, ended = _group(command, looks), control_group.ended_by_kernel()
    told, tell = os.pipe()
    copies, out, log = _pipes(command)
    try:
        try:
            first = _fork_first(lambda: _first(command, mount, group, out, log, tell), tell)
        finally:
            for descriptor in {tell, out, log}:
                os.close(descriptor)
        try:
            _copy(copies, (lambda: looks.look(group)) if looks else None)
        except BaseException as error:
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
            if isinstance(error, LimitReached):
                _copy(copies)  # what it had printed
            raise
        status = os.waitpid(first, 0)[1]
        if looks:
            looks.look(group, last=True)
        with open(told, "rb", closefd=False) as messages:
            message = messages.read().decode(errors="replace")
        problem = control_group.problem(group, ended)
    finally:
        for descriptor in {told, *copies}:
            os.close(descriptor)
        if group:
            group.remove()
    if message:
        raise ToolError(message)
    if problem:
        raise control_group.error(command.argv, problem)
    return _exit_code(status)


def _group(command: Command, looks: Optional[Looks]) -> Optional[ControlGroup]:
    """Where there can be one. Without privileges, one is asked for only where there are bounds for it."""
    if looks is None or not (looks.watch.bounds.memory or looks.watch.bounds.processes):
        return None if command.rootless else control_group.make()
    return control_group.make(memory=looks.watch.bounds.memory, processes=looks.watch.bounds.processes)


def _know_beforehand(command: Command) -> None:
    """What each child would work out for itself, as it is a copy of this process and cannot tell it."""
    machine = os.uname()
    seccomp.program(machine.machine, mounts=False, ids=command.user)
    limits.counts_by_namespace(machine.release)


def _pipes(command: Command) -> Tuple[Dict[int, int], int, int]:
    """What is to be copied (by the descriptor to read: the one to write), and where standard output and errors go."""
    log_read, log_write = os.pipe()
    if command.stdout is None:
        return {log_read: command.log}, log_write, log_write
    out_read, out_write = os.pipe()
    return {log_read: command.log, out_read: command.stdout}, out_write, log_write


def _fork_first(main: Callable[[], int], tell: int) -> int:
    """As `_fork`, in a PID namespace of its own. The next child of this process is in this process's again."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
        try:
            return _fork(main, tell)
        finally:
            syscalls.enter_namespace(own, syscalls.CLONE_NEWPID)
    finally:
        os.close(own)


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


def _copy(copies: Dict[int, int], look: Optional[Callable[[], None]] = None) -> None:
    """Copy what comes from pipes until nobody has their other ends. look: called now and then. Raises ToolError, and what `look`
    raises."""
    poll = select.poll()
    for descriptor in copies:
        poll.register(descriptor, select.POLLIN)
    left = len(copies)
    while left:
        found = poll.poll(int(watch.TICK * 1000) if look else None)
        if look:
            look()
        for descriptor, _ in found:
            data = os.read(descriptor, 1 << 16)
            if not data:
                poll.unregister(descriptor)
                left -= 1
            try:
                while data:
                    data = data[os.write(copies[descriptor], data) :]
            except OSError as error:
                raise ToolError(f"what a command prints cannot be written: {error.strerror}") from None


def _first(
    command: Command,
    mount: Callable[[], Path],
    group: Optional[ControlGroup],
    out: int,
    log: int,
    tell: int,
    into: Optional[int] = None,
) -> int:
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
    child = _fork(lambda: _become(command, out, log, tell, ask, answered, into), tell)
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
            return _exit_code(status)


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
