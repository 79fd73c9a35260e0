"""The few Linux system calls that Python's standard library (3.9) does not offer, through libc; and two of `socket`, a module
that takes longer to import than a view takes to mount.

Every function raises OSError with the kernel's errno. Sources: mount(2), umount2(2), unshare(2), setns(2), pivot_root(2),
prctl(2), syncfs(2), openat2(2), keyctl(2), close_range(2), sethostname(2), socket(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Set, Union

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

MNT_DETACH = 2

_AF_INET, _SOCK_DGRAM = 2, 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

# pivot_root has no libc wrapper; the number differs by machine.
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217, "armv7l": 218}
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280, "armv7l": 311}
_SYS_MOUNT_SETATTR = 442
_SYS_CLOSE_RANGE = 436
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_KEYCTL_JOIN_SESSION_KEYRING = 1

_Path = Union[str, bytes, "os.PathLike[str]"]


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give the calling process namespaces of its own (a PID namespace: its next child)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter_namespace(descriptor: int, kind: int) -> None:
    """setns(2): enter the namespace of a descriptor, of this kind (a PID namespace: the next child does)."""
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: _Path, target: _Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). `data` is the file system's own option string; the kernel takes less than one page of it."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind) if kind else None,
        ctypes.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    _check(result, f"mount {os.fsdecode(source)} on {os.fsdecode(target)}")


def make_read_only(target: _Path) -> None:
    """Let nobody write through the mount at `target` and those below it (mount_setattr; before Linux 5.12 that one only)."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    arguments = (ctypes.c_int(_AT_FDCWD), os.fsencode(target), ctypes.c_uint(_AT_RECURSIVE), attributes)
    # The number is the same on every machine.
    result = _libc.syscall(ctypes.c_long(_SYS_MOUNT_SETATTR), *arguments, ctypes.c_size_t(len(attributes)))
    if result != 0 and ctypes.get_errno() == errno.ENOSYS:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | locked_flags(target))
    else:
        _check(result, f"mount_setattr {os.fsdecode(target)}")


def locked_flags(path: _Path) -> int:
    """What the mount of `path` forbids: in a user namespace it cannot be allowed again, and must be said again."""
    flags = os.statvfs(path).f_flag
    result = 0
    for name, flag in (("ST_NOSUID", MS_NOSUID), ("ST_NODEV", MS_NODEV), ("ST_NOEXEC", MS_NOEXEC)):
        if flags & getattr(os, name):
            result |= flag
    return result


def set_host_name(name: bytes) -> None:
    """sethostname(2): of this process's UTS namespace."""
    _check(_libc.sethostname(name, ctypes.c_size_t(len(name))), "sethostname")


def open_datagram_socket() -> int:
    """socket(2): the descriptor of one of IPv4, by which interfaces are set up."""
    descriptor: int = _libc.socket(ctypes.c_int(_AF_INET), ctypes.c_int(_SOCK_DGRAM | os.O_CLOEXEC), ctypes.c_int(0))
    _check(0 if descriptor >= 0 else -1, "socket")
    return descriptor


def umount(target: _Path, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {os.fsdecode(target)}")


def pivot_root(new_root: _Path, put_old: _Path) -> None:
    """pivot_root(2)."""
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"pivot_root: unknown machine {os.uname().machine}")
    result = _libc.syscall(ctypes.c_long(number), os.fsencode(new_root), os.fsencode(put_old))
    _check(result, "pivot_root")


def join_session_keyring() -> None:
    """Have a new, empty session keyring (keyctl KEYCTL_JOIN_SESSION_KEYRING)."""
    number = _SYS_KEYCTL.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"keyctl: unknown machine {os.uname().machine}")
    if _libc.syscall(ctypes.c_long(number), _KEYCTL_JOIN_SESSION_KEYRING, None) < 0:
        _check(-1, "keyctl")


def sync_file_system(path: _Path) -> None:
    """syncfs(2): write what the file system of a directory has in memory, data and names, to its disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(_libc.syncfs(ctypes.c_int(descriptor)), f"syncfs {os.fsdecode(path)}")
    finally:
        os.close(descriptor)


def die_with_parent(signal: int) -> None:
    """Have the kernel send `signal` to this process when its parent ends (prctl PR_SET_PDEATHSIG).

    A change of credentials clears it, so it is to be called after unshare and setuid.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl")


def hide_from_others(hidden: bool = True) -> None:
    """Let nobody but the machine's root see this process's memory, environment and files (prctl PR_SET_DUMPABLE)."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(not hidden), 0, 0, 0), "prctl")


def close_descriptors(kept: Set[int]) -> None:
    """Close all of this process's descriptors but some (close_range; before Linux 5.9 one by one)."""
    edges = sorted({-1, *kept})
    for low, high in zip(edges, [*edges[1:], 1 << 31]):
        if high - low > 1 and not _close_range(low + 1, high - 1):
            os.closerange(low + 1, min(high, os.sysconf("SC_OPEN_MAX")))


def _close_range(first: int, last: int) -> bool:
    # The number is the same on every machine.
    result: int = _libc.syscall(
        ctypes.c_long(_SYS_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0)
    )
    return result == 0


def no_new_privileges() -> None:
    """Set-uid programs give nothing to this process or its children."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def set_seccomp_filter(program: bytes) -> None:
    """Filter system calls by a BPF program: instructions of struct sock_filter (prctl PR_SET_SECCOMP)."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions)))
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0), "prctl")


def drop_capability(number: int) -> None:
    """Take a capability out of the bounding set: neither this process's children nor set-uid programs get it back."""
    _check(_libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0), "prctl")


RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

# The number is the same on every machine that Debian has.
_SYS_OPENAT2 = 437


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: _Path, flags: int, resolve: int) -> int:
    """openat2(2), which makes no files here: a descriptor of `path`, looked up from the descriptor `directory`."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    arguments = (ctypes.c_int(directory), os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
    descriptor: int = _libc.syscall(ctypes.c_long(_SYS_OPENAT2), *arguments)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))
    return descriptor
