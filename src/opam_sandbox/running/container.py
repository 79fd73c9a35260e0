"""A container of an image: an overlay of its unpacked layers, namespaces, and crun or runc in them.

The root is an overlay: below, the layers as they lie in the store of unpacked layers, above, a directory that goes when
the container ends. It is mounted in a mount namespace that nobody else has, and all runs in a PID namespace whose first
process dies with the caller: when anything is killed, the kernel takes away processes and mounts, and `scratch`'s keeper
the directory.

    caller's process       waits, passes signals on                      (user namespace without privileges)
      first process        PID 1 of the new PID namespace: mounts, reaps, passes signals on
        crun or runc
          the command      is not PID 1: signals do to it what they do elsewhere
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Tuple

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.store import Store
from opam_sandbox.running import find_command, runtime, user_namespace
from opam_sandbox.running.image_config import Image, find_user
from opam_sandbox.running.runtime_bundle import Container, write_bundle
from opam_sandbox.running.scratch import ContainerScratch
from opam_sandbox.running.unpacked import unpacked
from opam_sandbox.sandbox import privileges, syscalls
from opam_sandbox.sandbox.stack import Stack

# What a terminal or a supervisor sends; the others are for nobody else, or cannot be caught.
_PASSED_ON = [
    getattr(signal, name)
    for name in "SIGHUP SIGINT SIGQUIT SIGTERM SIGUSR1 SIGUSR2 SIGWINCH SIGCONT SIGTSTP SIGALRM".split()
]


@dataclass(frozen=True)
class Contained:
    """What is to run in a container, on top of what the image says.

    runtime: the path of crun or runc, whichever `kind` says. argv: the whole command. user: as an image's `User`. env:
    `NAME=value`, on top of the image's. mounts: (absolute path outside, path inside). unattended: nobody looks at notes:
    refuse to run as another user than `user` where this machine has no ids for that; and end when the caller's parent does.

    ended: called once the command has ended, in the first process, with its exit status and what the runtime says of its own
    failure, "" where it ran the command. Not called where it did not come so far.
    """

    runtime: str
    kind: str
    argv: Sequence[str]
    user: str
    env: Sequence[str] = ()
    hostname: str = "image"
    host_network: bool = False
    terminal: bool = False
    mounts: Sequence[Tuple[str, str]] = ()
    unattended: bool = False
    ended: Optional[Callable[[int, str], None]] = None


def run_contained(image: Image, store_directory: Path, what: Contained) -> int:
    """Run a command in a new container of the image. Returns its exit status, 128 + N for a signal, 127 and 126 where the image
    has no such command; raises ToolError. Without privileges this process is in another user namespace from then on."""
    rootless = os.geteuid() != 0
    store = Store(store_directory, rootless)
    lower = unpacked(store, image.layers)
    ids = find_user(what.user, lower)
    parent = Path(os.path.realpath(store_directory)) / "run" / (f"uid-{os.getuid()}" if rootless else "root")
    if rootless:
        parent.mkdir(parents=True, exist_ok=True)  # as the user's own, before this process is somebody else
        ids = user_namespace.enter(ids, exactly=what.unattended)
    if what.unattended:
        # Who becomes another user has to say it again.
        syscalls.die_with_parent(signal.SIGKILL)
    container = Container(
        argv=what.argv,
        env=[*image.env, *what.env],
        workdir=image.workdir,
        ids=ids,
        hostname=what.hostname,
        host_network=what.host_network,
        terminal=what.terminal,
        mounts=what.mounts,
        rootless=rootless,
    )
    scratch = ContainerScratch(store.scratch_records, parent)
    keeper, held = scratch.keep()
    try:
        return in_namespaces(lambda: _contain(what, container, lower, scratch.path), container.terminal, rootless)
    finally:
        os.close(held)
        _wait(keeper)


def in_namespaces(main: Callable[[], int], terminal: bool, rootless: bool) -> int:
    """Run `main` as process 1 of new PID and mount namespaces; returns its exit status, 128 + N for a signal."""
    alive_read, alive_write = os.pipe()
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
    except OSError as error:
        raise user_namespace.no_namespaces(error, rootless) from None
    # Blocked until there is a process to pass them on to, and until it can take them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(alive_write)
            syscalls.die_with_parent(signal.SIGKILL)
            os.set_blocking(alive_read, False)
            try:
                gone = os.read(alive_read, 1) == b""
            except BlockingIOError:
                gone = False
            code = 137 if gone else main()
        except ToolError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 1
        except BaseException as error:
            text = machine_errors.explained(error)
            if text is None:
                traceback.print_exc()
            else:
                print(f"error: {text}", file=sys.stderr)
                code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(alive_read)
    _pass_on(child)
    try:
        return _wait_and_watch(child) if terminal else _wait(child)
    finally:
        os.close(alive_write)


def _pass_on(pid: int, but: Sequence[signal.Signals] = ()) -> None:
    def handle(number: int, _: Any) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    for number in _PASSED_ON:
        if number not in but:
            signal.signal(number, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)


def _wait_and_watch(pid: int) -> int:
    """Wait, and say that the terminal's size changed. The kernel says so only to whom the terminal controls, which a process
    that Pants' daemon starts is not."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    size = os.get_terminal_size(0)
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        signal.sigtimedwait([signal.SIGCHLD], 0.5)
        try:
            now = os.get_terminal_size(0)
        except OSError:
            os.kill(pid, signal.SIGHUP)  # the terminal is gone
            break
        if now != size:
            os.kill(pid, signal.SIGWINCH)
        size = now
    return _wait(pid)


def _wait(pid: int) -> int:
    return _exit_code(os.waitpid(pid, 0)[1])


def _exit_code(status: int) -> int:
    """Of a wait status, as shells have it: 128 + N for a signal."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _contain(what: Contained, container: Container, lower: Sequence[Path], scratch: Path) -> int:
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    # The runtime looks processes up by the numbers that they have in here.
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    runtime.hide_cgroups(what.kind)
    # The container is to have neither its caller's keys nor a look at this process, which is in its PID namespace.
    privileges.leave_keyring()
    syscalls.hide_from_others()
    root = Stack(lower, scratch, container.rootless)
    root.mount()
    if not container.mounts:  # they may bring the command
        code = find_command.check(root.root, container.argv[0], container.env, container.workdir)
        if code:
            why = "is not a program" if code == find_command.NOT_EXECUTABLE else "is not found"
            print(f"error: {container.argv[0]} {why} in the image", file=sys.stderr)
            if what.ended is not None:
                what.ended(code, "")
            return code
    if what.ended is not None:
        problem = find_command.why_not_started(
            root.root, container.argv, container.env, container.workdir, container.ids
        )
        if problem:
            what.ended(
                find_command.NOT_EXECUTABLE, f"{container.argv[0]} is in the image, but does not start: {problem}"
            )
            return find_command.NOT_EXECUTABLE
    bundle = scratch / "bundle"
    write_bundle(bundle, root.root, container)
    argv = runtime.command(what.runtime, what.kind, scratch, bundle, own_log=what.ended is not None)
    env = {name: os.environ[name] for name in ("PATH", "TERM", "HOME") if name in os.environ}
    env["XDG_RUNTIME_DIR"] = str(scratch)
    process = subprocess.Popen(
        argv,
        env=env,
        # Signals to this group come to the first process, which passes them on once.
        start_new_session=True,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON),
    )
    # Started while signals are blocked, so that they come to this thread.
    threading.Thread(target=_end_with_command, args=(scratch / "pid", process.pid), daemon=True).start()
    if container.terminal:
        signal.signal(signal.SIGWINCH, lambda *_: _resize(scratch / "pid"))
    _pass_on(process.pid, but=[signal.SIGWINCH] if container.terminal else [])
    while True:
        # Everybody whose parent has ended is this process's.
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return 70
        if pid == process.pid:
            code = _exit_code(status)
            if what.ended is not None:
                what.ended(code, runtime.failure(scratch))
            return code


def _resize(pid_file: Path) -> None:
    """Give the container's terminal the size of this one. crun 1.8 does not."""
    try:
        size = os.get_terminal_size(0)
        with open(f"/proc/{int(pid_file.read_text())}/fd/0", "rb") as terminal:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))
    except (OSError, ValueError):
        pass  # not started yet, or ended, or its input is no terminal any more


def _end_with_command(pid_file: Path, runtime: int) -> None:
    """When the command has ended, end what it left running: crun waits for the last of its processes."""
    while True:
        try:
            command = int(pid_file.read_text())
            break
        except (OSError, ValueError):
            time.sleep(0.02)  # not started yet, and perhaps it never is: then this process ends
    try:
        handle = os.pidfd_open(command)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
    except ProcessLookupError:
        pass
    except OSError:  # before Linux 5.3
        while os.path.exists(f"/proc/{command}"):
            time.sleep(0.1)
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, runtime):
            try:
                os.kill(int(name), signal.SIGKILL)
            except ProcessLookupError:
                pass
