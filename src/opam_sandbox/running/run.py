"""`run`: a command in a container of an image, without a daemon and without unpacking what was unpacked before.

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

import argparse
import errno
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
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.store import Store
from opam_sandbox.request import read_request
from opam_sandbox.running import engine, find_command, user_namespace
from opam_sandbox.running.image_config import find_user, read_image, under
from opam_sandbox.running.requests import RunRequest
from opam_sandbox.running.runtime_bundle import Container, write_bundle
from opam_sandbox.running.scratch import ContainerScratch
from opam_sandbox.running.unpacked import unpacked
from opam_sandbox.running.variables import variables
from opam_sandbox.sandbox import privileges, syscalls
from opam_sandbox.sandbox.stack import Stack

# What a terminal or a supervisor sends; the others are for nobody else, or cannot be caught.
_PASSED_ON = [
    getattr(signal, name)
    for name in "SIGHUP SIGINT SIGQUIT SIGTERM SIGUSR1 SIGUSR2 SIGWINCH SIGCONT SIGTSTP SIGALRM".split()
]


def run(options: argparse.Namespace) -> int:
    """Run as `options.request`, a file, and `options.arguments` say. Returns the command's exit status; raises ToolError."""
    request: RunRequest = read_request(options.request, RunRequest)
    here = Path(os.path.abspath(options.request)).parent
    layout = Path(under(here, request["image"]))
    arguments: List[str] = options.arguments
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    runtime, kind = request["runtime"], request["kind"]
    if request["kind"] == "docker" or request["kind"] == "podman":
        return engine.run_in_engine(request, layout, arguments)
    image = read_image(layout)
    argv = image.argv(arguments)
    rootless = os.geteuid() != 0
    store_directory = Path(under(here, request["store"]))
    store = Store(store_directory, rootless)
    lower = unpacked(store, image.layers)
    ids = find_user(image.user, lower)

    parent = Path(os.path.realpath(store_directory)) / "run" / (f"uid-{os.getuid()}" if rootless else "root")
    if rootless:
        parent.mkdir(parents=True, exist_ok=True)  # as the user's own, before this process is somebody else
        ids = user_namespace.enter(ids)
    container = Container(
        argv=argv,
        env=[*image.env, *(f"{name}={value}" for name, value in variables(request["env"]).items())],
        workdir=image.workdir,
        ids=ids,
        hostname=request["hostname"],
        host_network=request["network"] == "host",
        terminal=sys.stdin.isatty() and sys.stdout.isatty(),
        mounts=[(volume["source"], volume["target"]) for volume in request["volumes"]],
        rootless=rootless,
    )
    scratch = ContainerScratch(store.scratch_records, parent)
    keeper, held = scratch.keep()
    try:
        return _in_namespaces(
            lambda: _contain(runtime, kind, container, lower, scratch.path, rootless),
            container.terminal,
            rootless,
        )
    finally:
        os.close(held)
        _wait(keeper)


def _in_namespaces(main: Callable[[], int], terminal: bool, rootless: bool) -> int:
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


def _contain(
    runtime: str, kind: str, container: Container, lower: Sequence[Path], scratch: Path, rootless: bool
) -> int:
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    # The runtime looks processes up by the numbers that they have in here.
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    _hide_cgroups(kind)
    # The container is to have neither its caller's keys nor a look at this process, which is in its PID namespace.
    privileges.leave_keyring()
    syscalls.hide_from_others()
    root = Stack(lower, scratch, rootless)
    root.mount()
    if not container.mounts:  # they may bring the command
        code = find_command.check(root.root, container.argv[0], container.env, container.workdir)
        if code:
            what = "is not a program" if code == find_command.NOT_EXECUTABLE else "is not found"
            print(f"error: {container.argv[0]} {what} in the image", file=sys.stderr)
            return code
    bundle = scratch / "bundle"
    write_bundle(bundle, root.root, container)
    argv = _runtime_argv(runtime, kind, scratch, bundle)
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
            return _exit_code(status)


def _runtime_argv(runtime: str, kind: str, scratch: Path, bundle: Path) -> List[str]:
    # Nothing is limited, and a container that is killed is to leave no control group behind. (runc warns that it finds
    # none to end processes by: the PID namespace does that. What it fails of it also says itself.)
    options: Dict[str, List[str]] = {
        "crun": ["--cgroup-manager=disabled"],
        "runc": ["--rootless=true", f"--log={scratch / 'log'}"],
    }
    state, pid = f"--root={scratch / 'state'}", f"--pid-file={scratch / 'pid'}"
    return [runtime, state, *options[kind], "run", pid, f"--bundle={bundle}", f"opam-oci-{scratch.name}"]


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


def _hide_cgroups(kind: str) -> None:
    """In this mount namespace only: runc makes a control group as root unless it cannot, and crun 1.8 does not start at all
    where a cgroup v2 hierarchy lies beside those of v1."""
    if kind == "crun":
        if os.path.isdir("/sys/fs/cgroup/unified"):
            syscalls.mount(
                "tmpfs",
                "/sys/fs/cgroup",
                "tmpfs",
                syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC,
                "size=64k",
            )
        return
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
        mounts = [line.split() for line in lines]
    for mount in mounts:
        if mount[mount.index("-") + 1] in ("cgroup", "cgroup2"):
            flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY
            flags |= syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
            try:
                syscalls.mount("none", mount[4], flags=flags)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL, errno.ENOENT, errno.EACCES):
                    raise
