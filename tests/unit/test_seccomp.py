"""seccomp: every rule of the table by the call itself, and that ordinary programs do not notice the filter."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, List

import pytest

from opam_sandbox.sandbox import seccomp, syscalls

MACHINE = os.uname().machine
COLUMN = 1 if MACHINE == "aarch64" else 0
pytestmark = pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="the table lacks this machine")
libc = ctypes.CDLL(None, use_errno=True)


def number(x86_64: int, aarch64: int) -> int:
    return (x86_64, aarch64)[COLUMN]


def call(number: int, *arguments: int, mounts: bool = False) -> int:
    """The error (0: none) of a system call in a process with the filter; -signal if it is killed."""

    def work() -> int:
        result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
        return ctypes.get_errno() if result == -1 else 0

    return filtered(work, mounts)


def filtered(work: Callable[[], int], mounts: bool = False) -> int:
    child = os.fork()
    if child == 0:
        status = 255
        try:
            syscalls.no_new_privileges()
            seccomp.load(mounts)
            status = work()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)


@pytest.mark.parametrize("name", sorted(seccomp.refused(MACHINE)) if MACHINE in ("x86_64", "aarch64") else [])
def test_a_refused_call(name: str) -> None:
    """Arguments that none of these takes: without the filter the errors are others, or there is none."""
    absent = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "listmount", "statmount")
    expected = errno.ENOSYS if name in absent else errno.EPERM
    assert call(seccomp.refused(MACHINE)[name], -1, -1, -1, -1, -1) == expected


def test_mounts_are_for_who_makes_a_root() -> None:
    """They get as far as to the kernel's own checks; a user namespace is refused there as well."""
    assert set(seccomp.refused(MACHINE)) - set(seccomp.refused(MACHINE, mounts=True)) >= {"mount", "umount2", "unshare"}
    assert call(number(272, 97), 0, mounts=True) == 0
    assert call(number(272, 97), syscalls.CLONE_NEWUSER, mounts=True) == errno.EPERM


@pytest.mark.parametrize("flag", [1 << bit for bit in (17, 25, 26, 27, 28, 29, 30)])
def test_no_namespace_by_clone(flag: int) -> None:
    assert call(number(56, 220), flag | 17, 0, 0, 0, 0) == errno.EPERM


@pytest.mark.parametrize("family", range(46))
def test_socket_families(family: int) -> None:
    expected = 0 if family in (1, 2, 10, 16) else errno.EAFNOSUPPORT
    kind = 3 if family == 16 else 1
    assert call(number(41, 198), family, kind, 0) == expected


def test_terminals_are_not_typed_into() -> None:
    assert call(number(16, 29), 0, 0x5412, 0) == errno.EPERM
    assert call(number(16, 29), 0, 0x541C, 0) == errno.EPERM
    assert call(number(16, 29), 250, 0x5401, 0) == errno.EBADF


def test_personalities() -> None:
    assert call(number(135, 92), 0xFFFFFFFF) == 0
    assert call(number(135, 92), 0) == 0
    assert call(number(135, 92), 0x0040000) == errno.EPERM


@pytest.mark.skipif(MACHINE != "x86_64", reason="x32 is x86_64's")
def test_numbers_of_x32() -> None:
    assert call(0x40000000 | 39) == errno.ENOSYS


def test_ordinary_programs_run(tmp_path: Path) -> None:
    """A shell with pipes and jobs, a compiler, threads, archives, and opam if it is there."""
    (tmp_path / "a.c").write_text(
        "#include <pthread.h>\nstatic void *f(void *p) { return p; }\n"
        "int main(void) { pthread_t t; return pthread_create(&t, 0, f, 0) || pthread_join(t, 0); }\n"
    )
    commands: List[str] = [
        "cd " + str(tmp_path),
        "gcc -O2 -pthread -o a a.c && ./a",
        "tar -cf - a.c | gzip | tar -tzf - | grep -q a.c",
        "(sleep 0.01 & wait) && mkfifo p && (echo x > p & read y < p && test $y = x)",
        "perl -MSocket -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die; socket(C, PF_INET, SOCK_STREAM, 0) or die'",
    ]
    if shutil.which("opam"):
        commands.append("opam --version")
    script = " && ".join(commands)
    assert filtered(lambda: subprocess.call(["sh", "-c", script])) == 0


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("mounts", [False, True])
def test_a_program_is_well_formed(machine: str, mounts: bool) -> None:
    """Whole instructions, fewer than the kernel takes; jumps stay inside."""
    code = seccomp.program(machine, mounts=mounts)
    count = len(code) // 8
    assert len(code) % 8 == 0 and count < 4096
    for place in range(count):
        if code[8 * place] & 7 == 5:
            assert place + 1 + max(code[8 * place + 2], code[8 * place + 3]) < count
        if code[8 * place] == 5:  # always, as far as its 32 bits say
            assert place + 1 + int.from_bytes(code[8 * place + 4 : 8 * place + 8], sys.byteorder) < count
    assert seccomp.program("riscv64", mounts=mounts) == b""
