"""Runs a program of the host, such as mmdebstrap, where it sees the host's programs and nothing else of the host.

Programs of packages run below it as root, with nothing but a chroot around them, which root leaves at will. So what is
around the chroot is made harmless: namespaces of its own (`run_isolated`), ids that own nothing of the host's, and a root
directory with /usr (read-only), a few devices and what the program is to work on.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Dict, List, Optional, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox import control_group, limits, memory, privileges, seccomp, syscalls
from opam_sandbox.sandbox.kernel_files import mount_proc
from opam_sandbox.sandbox.namespaces import is_rootless, kill_stragglers, run_isolated
from opam_sandbox.sandbox.view import LOG

# Where programs find them.
INPUTS, SCRATCH = "/inputs", "/tmp"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Directories of the host's programs, and what their own dynamic linker and interpreters read.
_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu")
_SETTINGS = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "perl")
_SMALL = 64 << 20  # bytes, as container engines have it
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/bin/false\n"
    "nobody:x:65534:65534::/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
}


@dataclass(frozen=True)
class Job:
    """inputs: a directory that is shown read-only; directory: an empty one, for this module; room: bytes of memory that scratch
    files may take, 0: they are on disk; stdout, log: where output goes."""

    argv: Sequence[str]
    env: Dict[str, str]
    inputs: Path
    directory: Path
    room: int
    stdout: BinaryIO
    log: BinaryIO


def run(job: Job) -> int:
    """Run the program; returns its exit status. Nothing that it started lives on. Raises ToolError."""
    _make_skeleton(job)
    ended = control_group.ended_by_kernel()
    status = _try(job, foreign=True)
    if status is None and not is_rootless():
        # root may lack user namespaces. Its ids are the host's then, so that what can mount goes: mmdebstrap does without.
        status = _try(job, foreign=False)
    if status is None:
        raise ToolError(
            f"the kernel gives no sandbox to make the base in; what it refused is above or in {LOG}. A security module such as "
            "AppArmor may forbid it: on Ubuntu `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, in a container "
            "`--security-opt apparmor=unconfined`."
        )
    problem = control_group.problem(None, ended)
    if problem:
        raise control_group.error(job.argv[:1], problem)
    return status


def _try(job: Job, foreign: bool) -> Optional[int]:
    """The program's exit status, None where the kernel does not let its sandbox be made."""
    started, start = os.pipe()
    try:
        try:
            status = run_isolated(lambda: _inside(job, foreign, start), foreign)
        finally:
            os.close(start)
        return status if os.read(started, 1) else None
    finally:
        os.close(started)


def _make_skeleton(job: Job) -> None:
    """The view's root: mount points, links, and files that are like those of a machine that has just these accounts."""
    root = job.directory / "root"
    if root.exists():
        return
    for name in ("dev/shm", "etc/apt/apt.conf.d", "inputs", "proc", "root", "run", "tmp", "var/lib/dpkg"):
        (root / name).mkdir(parents=True)
    (job.directory / "scratch").mkdir()
    # Others of this machine do not get as far as to the second one.
    for path, mode in ((job.directory, 0o700), (job.directory / "scratch", 0o1777), (root, 0o755)):
        os.chmod(path, mode)
    for name in _PROGRAMS:
        host = Path("/", name)
        if host.is_symlink():
            os.symlink(os.readlink(host), root / name)
        elif host.is_dir():
            (root / name).mkdir()
    for name in _SETTINGS:
        host = Path("/etc", name)
        if host.is_dir():
            (root / "etc" / name).mkdir()
        elif host.exists():
            (root / "etc" / name).touch()
    for name, text in _ACCOUNTS.items():
        (root / name).write_text(text)
    for name in _DEVICES:
        (root / "dev" / name).touch()
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", root / "dev" / name)


def _inside(job: Job, foreign: bool, start: int) -> int:
    """Process 1 of the namespaces."""
    try:
        _mount_view(job, foreign)
        _enter_view(job, foreign)
    except OSError as error:
        with open(job.log.fileno(), "ab", closefd=False) as log:
            log.write(f"the base's sandbox: {error}\n".encode())
        return 1
    os.write(start, b"x")
    with open("/dev/null", "rb") as null:  # the view's, which cannot be changed
        done = subprocess.run(
            list(job.argv),
            env=job.env,
            cwd="/",
            stdin=null,
            stdout=job.stdout,
            stderr=job.log,
            start_new_session=True,  # the caller's terminal is not the program's
            preexec_fn=lambda: _restrict(foreign),
            check=False,
        )
    kill_stragglers()
    if not job.room:
        # Files of ids that only this namespace may remove. A program that ends well has left none.
        for name in os.listdir(SCRATCH):
            with suppress(OSError):
                remove_tree(Path(SCRATCH, name))
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _mount_view(job: Job, foreign: bool) -> None:
    root = job.directory / "root"
    syscalls.mount(root, root, flags=syscalls.MS_BIND)
    syscalls.make_read_only(root)
    for path in _shown(root):
        syscalls.mount("/" / path, root / path, flags=syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.make_read_only(root / path)
    syscalls.mount(job.inputs, root / INPUTS[1:], flags=syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.make_read_only(root / INPUTS[1:])
    for name in _DEVICES:
        syscalls.mount(f"/dev/{name}", root / "dev" / name, flags=syscalls.MS_BIND)
        # Devices can be written to all the same; their modes are the machine's.
        syscalls.make_read_only(root / "dev" / name)
    # The owner is said, as this process may have an id that the namespace does not know.
    owner = "uid=0,gid=0,"
    safe = syscalls.MS_NOSUID | syscalls.MS_NODEV
    memory.mount(root / "dev/shm", _SMALL, safe, owner + "mode=1777")
    memory.mount(root / "run", _SMALL, safe, owner + "mode=755")
    mount_proc(root / "proc", masked=not foreign)
    if job.room:
        memory.mount(root / "tmp", job.room, syscalls.MS_NODEV, owner + "mode=1777")
    else:
        syscalls.mount(job.directory / "scratch", root / "tmp", flags=syscalls.MS_BIND)


def _shown(root: Path) -> List[Path]:
    names = [Path(name) for name in _PROGRAMS] + [Path("etc", name) for name in _SETTINGS]
    return [name for name in names if (root / name).exists() and not (root / name).is_symlink()]


def _enter_view(job: Job, foreign: bool) -> None:
    os.chdir(job.directory / "root")
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
    if foreign:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    # This process is a copy of the tool's, its memory, environment and descriptors included.
    syscalls.hide_from_others()
    syscalls.die_with_parent(signal.SIGKILL)  # a change of ids cleared it


def _restrict(foreign: bool) -> None:
    # What the program mounts is gone with it, and no removal goes through that.
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP)
    # In a user namespace, SYS_ADMIN can mount what belongs to the namespace, and no more.
    privileges.keep_only(privileges.DPKG | ({privileges.SYS_ADMIN} if foreign else frozenset()))
    limits.set_limits()
    limits.limit_processes()
    syscalls.no_new_privileges()
    seccomp.load(mounts=True)
