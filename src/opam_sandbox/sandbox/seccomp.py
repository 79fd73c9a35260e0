"""A filter of system calls for what runs in a sandbox: what container engines refuse, and what leads around its namespaces.

`syscall_table` is turned into a classic BPF program, the only kind that seccomp(2) takes. Every rule is of its own, so that
the order has no meaning. x86_64 runs programs of i386 as well, by rules with i386's numbers. Machines that are not in the table
have no filter; all else that confines holds there as well.
"""

from __future__ import annotations

import errno
import os
import struct
from functools import lru_cache
from typing import Any, Dict, List, Optional, Tuple

from opam_sandbox.sandbox import syscall_table as table
from opam_sandbox.sandbox import syscalls

# linux/filter.h, linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _ALWAYS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
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


def refused(kind: str, mounts: bool = False) -> Dict[str, int]:
    """The system calls that are refused to programs of a kind (`x86_64`, `aarch64`, `i386`) whatever their arguments: name ->
    number."""
    column = table.KINDS[kind].column
    tables = [table.REFUSED, table.ABSENT] + ([] if mounts else [table.MOUNTS, {"unshare": table.UNSHARE}])
    found = {name: numbers[column] for one in tables for name, numbers in one.items()}
    return {name: number for name, number in found.items() if number is not None}


def oci_profile(machine: str) -> Dict[str, Any]:
    """`linux.seccomp` of an OCI runtime's configuration, from the same tables. Whoever reads it knows the numbers.

    Source: runtime-spec 1.0, config-linux.md.
    """
    every = [*table.REFUSED, *table.MOUNTS, "unshare"]
    rules = [
        _rule(every, errno.EPERM),
        _rule([*table.ABSENT], errno.ENOSYS),
        *(_rule(["clone"], errno.EPERM, 0, "MASKED_EQ", bit, bit) for bit in _bits(table.NAMESPACES)),
        *(_rule(["ioctl"], errno.EPERM, 1, "MASKED_EQ", 0xFFFFFFFF, value) for value in table.TERMINAL_INPUT),
        *(
            _rule(["socket"], errno.EAFNOSUPPORT, 0, "EQ", family)
            for family in range(table.ALL_FAMILIES)
            if family not in table.FAMILIES
        ),
        _rule(["socket"], errno.EAFNOSUPPORT, 0, "GE", table.ALL_FAMILIES),
        # With the highest bit it is the question which personality there is.
        *(
            _rule(["personality"], errno.EPERM, 0, "MASKED_EQ", 1 << 31 | bit, bit)
            for bit in _bits(0x7FFFFFFF)
            if bit not in table.PERSONALITIES
        ),
    ]
    profile: Dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    if machine in table.SCMP_ARCH:
        profile["architectures"] = [f"SCMP_ARCH_{name}" for name in table.SCMP_ARCH[machine]]
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
    if machine not in table.RUNS:
        return b""
    code = [_load(_ARCH_AT)]
    for kind in table.RUNS[machine]:
        rules = _rules(kind, mounts, ids)
        code += [_jump(_EQUAL, table.KINDS[kind].audit_arch, 1, 0), _instruction(_ALWAYS, len(rules)), *rules]
    return b"".join([*code, _give(_KILL)])


def _rules(kind: str, mounts: bool, ids: bool) -> List[bytes]:
    """The part for programs of one kind."""
    column = table.KINDS[kind].column
    code = [_load(_NUMBER_AT)]
    if kind == "x86_64":
        code += [_jump(_AT_LEAST, _X32, 0, 1), _error(errno.ENOSYS)]
    absent = {numbers[column] for numbers in table.ABSENT.values()}
    for number in sorted(refused(kind, mounts).values()):
        code += [_jump(_EQUAL, number, 0, 1), _error(errno.ENOSYS if number in absent else errno.EPERM)]
    code += _if_bits(table.CLONE[column], table.NAMESPACES)
    if mounts:
        code += _if_bits(table.UNSHARE[column], (table.NAMESPACES | table.NEW_TIME) & ~syscalls.CLONE_NEWNS)
    code += _if_other(table.SOCKET[column], 0, table.FAMILIES, errno.EAFNOSUPPORT)
    if table.SOCKETCALL[column] is not None:
        code += _if_one_of(table.SOCKETCALL[column], 0, (table.NEW_SOCKET,), errno.EAFNOSUPPORT)
    code += _if_one_of(table.IOCTL[column], 1, table.TERMINAL_INPUT, errno.EPERM)
    code += _if_other(table.PERSONALITY[column], 0, table.PERSONALITIES, errno.EPERM)
    if ids:
        for calls, allowed in ((table.WITH_IDS, table.IDS), (table.WITH_SHORT_IDS, table.SHORT_IDS)):
            for numbers, arguments in calls.values():
                if numbers[column] is not None:
                    code += [part for at in arguments for part in _if_other(numbers[column], at, allowed, errno.EPERM)]
    return [*code, _give(_ALLOW)]


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
    """`tests` on the lower half of a call's argument (all these machines store it first). They fall through if they pass."""
    assert number is not None
    body = [_load(_ARGUMENTS_AT + 8 * argument), *tests, _load(_NUMBER_AT)]
    return [_jump(_EQUAL, number, 0, len(body)), *body]


def _if_bits(number: Optional[int], bits: int) -> List[bytes]:
    return _for_call(number, 0, [_jump(_ANY_BIT, bits, 0, 1), _error(errno.EPERM)])


def _if_one_of(number: Optional[int], argument: int, values: Tuple[int, ...], error: int) -> List[bytes]:
    tests = [part for value in values for part in (_jump(_EQUAL, value, 0, 1), _error(error))]
    return _for_call(number, argument, tests)


def _if_other(number: Optional[int], argument: int, values: Tuple[int, ...], error: int) -> List[bytes]:
    count = len(values)
    tests = [_jump(_EQUAL, value, count - place, 0) for place, value in enumerate(values)]
    return _for_call(number, argument, [*tests, _error(error)])
