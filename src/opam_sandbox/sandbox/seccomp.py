"""A filter of system calls for what runs in a sandbox: what container engines refuse, and what leads around its namespaces.

The table below is turned into a classic BPF program, the only kind that seccomp(2) takes. Every rule is of its own, so that
the order has no meaning. Machines that are not in the table have no filter; all else that confines holds there as well.
"""

from __future__ import annotations

import errno
import os
import struct
from functools import lru_cache
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from opam_sandbox.sandbox import syscalls


class _Machine(NamedTuple):
    column: int
    audit_arch: int  # AUDIT_ARCH_* of linux/audit.h


# What a machine runs besides: programs of images may be of these kinds.
_SCMP_ARCH = {"x86_64": ("X86_64", "X86", "X32"), "aarch64": ("AARCH64", "ARM")}

_MACHINES = {"x86_64": _Machine(0, 0xC000003E), "aarch64": _Machine(1, 0xC00000B7)}

_Numbers = Tuple[Optional[int], Optional[int]]

# name: number on x86_64, on aarch64 (None: it has no such call). Refused with EPERM.
_REFUSED: Dict[str, _Numbers] = {
    # the machine's clock, swap, accounts, modules, kernel, log, name
    "acct": (163, 89),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "lookup_dcookie": (212, 18),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    # keys are the user's, in whatever namespace
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "request_key": (249, 218),
    # files and descriptors of others
    "fanotify_init": (300, 262),
    "open_by_handle_at": (304, 265),
    "pidfd_getfd": (438, 438),
    "setns": (308, 268),
    # large parts of the kernel that builds do not need
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
}

# Refused but to a program that makes a root directory.
_MOUNTS: Dict[str, _Numbers] = {
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "pivot_root": (155, 41),
    "umount2": (166, 39),
}

# Refused with ENOSYS: programs do without.
_ABSENT: Dict[str, _Numbers] = {
    "clone3": (435, 435),  # its flags are in memory, which no filter reads; libc takes clone then
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    # they say where on the machine a root directory lies
    "listmount": (458, 458),
    "statmount": (457, 457),
}

# Calls that take ids, and which arguments these are. The kernel refuses opam other ids all the same, but with another error where
# a user namespace knows no others.
_WITH_IDS: Dict[str, Tuple[_Numbers, Tuple[int, ...]]] = {
    "chown": ((92, None), (1, 2)),
    "fchown": ((93, 55), (1, 2)),
    "fchownat": ((260, 54), (2, 3)),
    "lchown": ((94, None), (1, 2)),
    "setgid": ((106, 144), (0,)),
    "setregid": ((114, 143), (0, 1)),
    "setresgid": ((119, 149), (0, 1, 2)),
    "setresuid": ((117, 147), (0, 1, 2)),
    "setreuid": ((113, 145), (0, 1)),
    "setuid": ((105, 146), (0,)),
}
_IDS = (1000, 0xFFFFFFFF)  # opam, "as it is"

_CLONE: _Numbers = (56, 220)
_UNSHARE: _Numbers = (272, 97)
_SOCKET: _Numbers = (41, 198)
_IOCTL: _Numbers = (16, 29)
_PERSONALITY: _Numbers = (135, 92)

_NAMESPACES = 0x7E020000  # CLONE_NEW*: mount, control group, UTS, IPC, user, PID, network
_NEW_TIME = 0x80  # CLONE_NEWTIME, of unshare only: for clone it is part of a signal's number
_FAMILIES = (
    1,
    2,
    10,
    16,
)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: others leave the network namespace, or are seldom used
_ALL_FAMILIES = 64  # more than there are
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: type into the caller's terminal
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, 32 bit addresses, uname of 2.6, both, "which is it?"

# linux/filter.h, linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000


def load(mounts: bool = False, ids: bool = False) -> None:
    """Filter this process's system calls, and those of all that it starts. It must have no_new_privs, or CAP_SYS_ADMIN.

    mounts: it may mount, and have mount namespaces of its own. ids: no files are given to, and no process becomes, anybody but
    opam. A kernel without filters, or a machine that is not in the table: nothing is done. Raises OSError.
    """
    code = program(os.uname().machine, mounts=mounts, ids=ids)
    if not code:
        return
    try:
        syscalls.set_seccomp_filter(code)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise


def refused(machine: str, mounts: bool = False) -> Dict[str, int]:
    """The system calls that are refused whatever their arguments: name -> number."""
    column = _MACHINES[machine].column
    tables = [_REFUSED, _ABSENT] + ([] if mounts else [_MOUNTS, {"unshare": _UNSHARE}])
    found = {name: numbers[column] for table in tables for name, numbers in table.items()}
    return {name: number for name, number in found.items() if number is not None}


def oci_profile(machine: str) -> Dict[str, Any]:
    """`linux.seccomp` of an OCI runtime's configuration, from the same tables. Whoever reads it knows the numbers.

    Source: runtime-spec 1.0, config-linux.md.
    """
    every = [*_REFUSED, *_MOUNTS, "unshare"]
    rules = [
        _rule(every, errno.EPERM),
        _rule([*_ABSENT], errno.ENOSYS),
        *(_rule(["clone"], errno.EPERM, 0, "MASKED_EQ", bit, bit) for bit in _bits(_NAMESPACES)),
        *(_rule(["ioctl"], errno.EPERM, 1, "MASKED_EQ", 0xFFFFFFFF, value) for value in _TERMINAL_INPUT),
        *(
            _rule(["socket"], errno.EAFNOSUPPORT, 0, "EQ", family)
            for family in range(_ALL_FAMILIES)
            if family not in _FAMILIES
        ),
        _rule(["socket"], errno.EAFNOSUPPORT, 0, "GE", _ALL_FAMILIES),
        # With the highest bit it is the question which personality there is.
        *(
            _rule(["personality"], errno.EPERM, 0, "MASKED_EQ", 1 << 31 | bit, bit)
            for bit in _bits(0x7FFFFFFF)
            if bit not in _PERSONALITIES
        ),
    ]
    profile: Dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    if machine in _SCMP_ARCH:
        profile["architectures"] = [f"SCMP_ARCH_{name}" for name in _SCMP_ARCH[machine]]
    return profile


def _bits(value: int) -> List[int]:
    return [1 << place for place in range(32) if value >> place & 1]


def _rule(
    names: List[str], error: int, argument: Optional[int] = None, test: str = "", value: int = 0, second: int = 0
) -> Dict[str, Any]:
    rule: Dict[str, Any] = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": error}
    if argument is not None:
        rule["args"] = [{"index": argument, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{test}"}]
    return rule


@lru_cache(maxsize=None)
def program(machine: str, *, mounts: bool, ids: bool = False) -> bytes:
    """The filter: instructions of struct sock_filter. Empty for a machine that is not in the table."""
    if machine not in _MACHINES:
        return b""
    column, arch = _MACHINES[machine]
    # A program of another kind, such as a 32 bit one, has other numbers for its calls.
    code = [_load(_ARCH_AT), _jump(_EQUAL, arch, 1, 0), _give(_KILL), _load(_NUMBER_AT)]
    if machine == "x86_64":
        code += [_jump(_AT_LEAST, _X32, 0, 1), _error(errno.ENOSYS)]
    absent = {numbers[column] for numbers in _ABSENT.values()}
    for number in sorted(refused(machine, mounts).values()):
        code += [_jump(_EQUAL, number, 0, 1), _error(errno.ENOSYS if number in absent else errno.EPERM)]
    code += _if_bits(_CLONE[column], _NAMESPACES)
    if mounts:
        code += _if_bits(_UNSHARE[column], (_NAMESPACES | _NEW_TIME) & ~syscalls.CLONE_NEWNS)
    code += _if_other(_SOCKET[column], 0, _FAMILIES, errno.EAFNOSUPPORT)
    code += _if_one_of(_IOCTL[column], 1, _TERMINAL_INPUT)
    code += _if_other(_PERSONALITY[column], 0, _PERSONALITIES, errno.EPERM)
    if ids:
        for numbers, arguments in _WITH_IDS.values():
            if numbers[column] is not None:
                code += [part for place in arguments for part in _if_other(numbers[column], place, _IDS, errno.EPERM)]
    return b"".join([*code, _give(_ALLOW)])


def _instruction(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def _load(offset: int) -> bytes:
    """Load 32 bits of struct seccomp_data."""
    return _instruction(_LOAD, offset)


def _jump(test: int, value: int, true: int, false: int) -> bytes:
    return _instruction(test, value, true, false)


def _give(action: int) -> bytes:
    return _instruction(_RETURN, action)


def _error(number: int) -> bytes:
    return _give(_ERROR | number)


def _for_call(number: Optional[int], argument: int, tests: List[bytes]) -> List[bytes]:
    """`tests` on the lower half of a call's argument (both machines store it first). They fall through if they pass."""
    assert number is not None
    body = [_load(_ARGUMENTS_AT + 8 * argument), *tests, _load(_NUMBER_AT)]
    return [_jump(_EQUAL, number, 0, len(body)), *body]


def _if_bits(number: Optional[int], bits: int) -> List[bytes]:
    return _for_call(number, 0, [_jump(_ANY_BIT, bits, 0, 1), _error(errno.EPERM)])


def _if_one_of(number: Optional[int], argument: int, values: Tuple[int, ...]) -> List[bytes]:
    tests = [part for value in values for part in (_jump(_EQUAL, value, 0, 1), _error(errno.EPERM))]
    return _for_call(number, argument, tests)


def _if_other(number: Optional[int], argument: int, values: Tuple[int, ...], error: int) -> List[bytes]:
    count = len(values)
    tests = [_jump(_EQUAL, value, count - place, 0) for place, value in enumerate(values)]
    return _for_call(number, argument, [*tests, _error(error)])
