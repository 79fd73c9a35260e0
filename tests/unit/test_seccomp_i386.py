"""seccomp for programs of i386, which run on x86_64 as well: the same table, by their own numbers of calls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable, List, Sequence

import pytest

from opam_sandbox.sandbox import seccomp, syscall_table, syscalls

# Makes system calls by i386's way, as each 32 bit program does: arguments are numbers, five for each call and "," between calls;
# prints what each gives. A family in memory: "@N", a block of N and zeros.
SOURCE = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
int main(int count, char **given) {
    /* Pointers of i386 have 32 bits. */
    unsigned *memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    for (int at = 1; at < count; at++) {
        unsigned part[6] = {0};
        int result;
        for (int n = 0; n < 6 && at < count && strcmp(given[at], ","); n++, at++) {
            if (given[at][0] == '@') {
                memory[0] = atoi(given[at] + 1); memory[1] = 1; memory[2] = 0;
                part[n] = (unsigned)(unsigned long)memory;
            } else part[n] = strtoll(given[at], 0, 0);
        }
        __asm__ volatile("int $0x80" : "=a"(result)
            : "a"(part[0]), "b"(part[1]), "c"(part[2]), "d"(part[3]), "S"(part[4]), "D"(part[5]) : "memory");
        printf("%d\n", result);
        fflush(stdout);
    }
    return 0;
}
"""
EPERM, ENOSYS, EAFNOSUPPORT = -1, -38, -97
Call = Callable[..., List[int]]
GETPID, PERSONALITY, IOCTL, SOCKET, SOCKETCALL, CLONE = 20, 136, 54, 359, 102, 120


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.uname().machine != "x86_64" or not shutil.which("gcc"):
        pytest.skip("i386 is x86_64's; needs gcc")
    directory = tmp_path_factory.mktemp("i386")
    (directory / "call.c").write_text(SOURCE)
    subprocess.run(["gcc", "-o", directory / "call", directory / "call.c"], check=True)
    if subprocess.call([directory / "call", str(GETPID)], stdout=subprocess.DEVNULL) != 0:
        pytest.skip("this kernel runs no programs of i386")
    return directory / "call"


@pytest.fixture
def calls(program: Path) -> Call:
    """The results of system calls in a process with the filter."""

    def run(*wanted: Sequence[object], mounts: bool = False, ids: bool = False) -> List[int]:
        def confine() -> None:
            syscalls.no_new_privileges()
            seccomp.load(mounts, ids)

        arguments: List[str] = []
        for one in wanted:
            arguments += [*map(str, one), ","]
        done = subprocess.run([program, *arguments], preexec_fn=confine, stdout=subprocess.PIPE, text=True, check=True)
        return [int(line) for line in done.stdout.split()]

    return run


def test_ordinary_calls_are_made(calls: Call) -> None:
    [pid, personality, lacking] = calls((GETPID,), (PERSONALITY, 0xFFFFFFFF), (IOCTL, 250, 0x5401, 0))
    assert pid > 0 and personality >= 0 and lacking == -9


ELF = """
.globl _start
_start:
    mov $4, %eax; mov $1, %ebx; mov $text, %ecx; mov $3, %edx; int $0x80
    mov $1, %eax; mov $0, %ebx; int $0x80
.data
text: .ascii "ran"
"""


def test_a_program_of_i386_runs(program: Path) -> None:
    """A whole one, started in a process that has the filter."""
    source, made = program.parent / "elf.s", program.parent / "elf"
    source.write_text(ELF)
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-o", made, source], check=True)
    assert made.read_bytes()[4] == 1  # ELFCLASS32

    def confine() -> None:
        syscalls.no_new_privileges()
        seccomp.load(ids=True)

    assert subprocess.run([made], preexec_fn=confine, stdout=subprocess.PIPE, check=True).stdout == b"ran"


def test_refused_calls(calls: Call) -> None:
    """All of them. Arguments that none of these takes: without the filter the errors are others, or there is none."""
    refused = seccomp.refused("i386")
    assert set(seccomp.refused("x86_64")) - set(refused) == {"kexec_file_load"}
    names = sorted(refused)
    found = dict(zip(names, calls(*((refused[name], -1, -1, -1, -1, -1) for name in names))))
    assert found == {name: ENOSYS if name in syscall_table.ABSENT else EPERM for name in names}


def test_mounts_are_for_who_makes_a_root(calls: Call) -> None:
    unshare = seccomp.refused("i386")["unshare"]
    assert calls((unshare, 0), (unshare, syscalls.CLONE_NEWUSER), mounts=True) == [0, EPERM]


def test_namespaces_terminals_and_personalities(calls: Call) -> None:
    flags = [1 << bit for bit in (17, 25, 26, 27, 28, 29, 30)]
    assert calls(*((CLONE, flag | 17, 0, 0, 0, 0) for flag in flags)) == [EPERM] * len(flags)
    assert calls((IOCTL, 0, 0x5412, 0), (IOCTL, 0, 0x541C, 0), (PERSONALITY, 0x40000)) == [EPERM] * 3


def test_sockets(calls: Call) -> None:
    """By the older call none, as its arguments are in memory; what it does with those that are there is let be."""
    families = range(46)
    found = calls(*((SOCKET, family, 3 if family == 16 else 1, 0) for family in families))
    assert [family for family, result in zip(families, found) if result >= 0] == list(syscall_table.FAMILIES)
    assert set(found) - {result for result in found if result >= 0} == {EAFNOSUPPORT}
    new, pair = calls((SOCKETCALL, 1, "@1"), (SOCKETCALL, 8, 0))
    assert new == EAFNOSUPPORT and pair == -14  # EFAULT: the kernel's own


def test_ids(calls: Call) -> None:
    """Also of 16 bits, of which the kernel takes the lower half: what it would cut off is refused."""
    for tables, allowed in (
        (syscall_table.WITH_IDS, syscall_table.IDS),
        (syscall_table.WITH_SHORT_IDS, syscall_table.SHORT_IDS),
    ):
        for name, ((_, _, number), places) in tables.items():
            for place in places:
                for value in (0, 1, 999, 0x10000, 0x10000 | 1000):
                    arguments = [allowed[0]] * 4
                    if 0 not in places:
                        arguments[0] = 0 if name != "fchown" else 250
                    arguments[place] = value
                    assert calls((number, *arguments), ids=True) == [EPERM], (name, place, value)


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes opam")
def test_opams_own_ids(calls: Call) -> None:
    """Both widths: nothing is refused that says opam, or nobody else."""
    given = [
        (table["setresgid"][0][2], 1000, *each)
        for table, each in (
            (syscall_table.WITH_IDS, (-1, 0xFFFFFFFF)),
            (syscall_table.WITH_SHORT_IDS, (1000, 0xFFFF)),
        )
    ]
    assert calls(*given, ids=True) == [0, 0]


HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_32.h")


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's table is not here")
def test_the_numbers_are_the_kernels() -> None:
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    for name, number in seccomp.refused("i386").items():
        assert known.get(name, number) == number, name
    for name, (numbers, _) in syscall_table.WITH_IDS.items():
        assert known.get(f"{name}32", known.get(name)) == numbers[2], name
    for name, (numbers, _) in syscall_table.WITH_SHORT_IDS.items():
        assert known[name] == numbers[2], name
    single = {"clone": syscall_table.CLONE, "unshare": syscall_table.UNSHARE, "socket": syscall_table.SOCKET}
    single.update(ioctl=syscall_table.IOCTL, personality=syscall_table.PERSONALITY, socketcall=syscall_table.SOCKETCALL)
    assert {name: known[name] for name in single} == {name: numbers[2] for name, numbers in single.items()}
