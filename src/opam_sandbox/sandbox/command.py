"""Runs one command in a view: its processes, and what they may do.

    this process      stays outside of the view, and copies what the command prints into the log
      the first one   process 1 of a PID namespace, in the view (`first_process`)
        the command

A command gets no descriptor of a file outside of the view. It could change that file's mode by it, and learn where it lies.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from opam_sandbox.errors import LimitReached, ToolError
from opam_sandbox.sandbox import control_group, first_process, limits, seccomp, syscalls, watch
from opam_sandbox.sandbox.control_group import ControlGroup
from opam_sandbox.sandbox.first_process import Command


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
                first = _fork_first(
                    lambda: first_process.main(command, mount, group, own.out, own.log, own.log, own.into), own.log
                )
                own.start()
                own.copy(first)
                return first_process.exit_code(os.waitpid(first, 0)[1])
        finally:
            if group:
                group.remove()
    group, ended = _group(command, looks), control_group.ended_by_kernel()
    told, tell = os.pipe()
    copies, out, log = _pipes(command)
    try:
        try:
            first = _fork_first(lambda: first_process.main(command, mount, group, out, log, tell), tell)
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
    return first_process.exit_code(status)


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
    """As `first_process.fork`, in a PID namespace of its own. The next child of this process is in this process's again."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
        try:
            return first_process.fork(main, tell)
        finally:
            syscalls.enter_namespace(own, syscalls.CLONE_NEWPID)
    finally:
        os.close(own)


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
