"""Shared memory, semaphores, message queues and keys of the caller, by the C library."""

from __future__ import annotations

import ctypes
import os
import secrets
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, List

_libc = ctypes.CDLL(None, use_errno=True)
_ADD_KEY = {"x86_64": 248, "aarch64": 217}
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_MQ_OPEN = {"x86_64": 240, "aarch64": 180}
_MQ_UNLINK = {"x86_64": 241, "aarch64": 181}
_SESSION_KEYRING = -3
_JOIN, _SETPERM, _UNLINK, _READ = 1, 5, 9, 11
_CREATE = 0o1000
_REMOVE = 0


def make(stack: ExitStack, secret: str, owner: int) -> Dict[str, object]:
    """One of each, by the names of the probes' arguments. Everybody may use them: it is for the sandbox to hide them. This
    process gets a session keyring of its own, since others' keys come and go."""
    _call(_KEYCTL, _JOIN, None)
    keys = {name: 1 + secrets.randbelow(1 << 30) for name in ("shm", "sem", "msg")}
    segment = _checked(_libc.shmget(keys["shm"], 4096, _CREATE | 0o666))
    stack.callback(_libc.shmctl, segment, _REMOVE, None)
    _write_segment(segment, secret.encode())
    semaphores = _checked(_libc.semget(keys["sem"], 1, _CREATE | 0o666))
    stack.callback(_libc.semctl, semaphores, 0, _REMOVE)
    queue = _checked(_libc.msgget(keys["msg"], _CREATE | 0o666))
    stack.callback(_libc.msgctl, queue, _REMOVE, None)
    name = "opam-oci-probe-" + secrets.token_hex(8)
    shared = Path("/dev/shm", name)
    shared.write_text(secret)
    shared.chmod(0o666)
    stack.callback(shared.unlink)
    key = _add_key(name, secret)
    stack.callback(_call, _KEYCTL, _UNLINK, key, _SESSION_KEYRING)
    return {
        **keys,
        "shm_id": segment,
        "msg_id": queue,
        "posix": name,
        "mq": _message_queue(stack, name),
        "key": key,
        "key_name": name,
    }


def session_keys() -> List[int]:
    """The numbers of the keys of this process's session, in their order."""
    room = ctypes.create_string_buffer(4096)
    size = _call(_KEYCTL, _READ, _SESSION_KEYRING, room, ctypes.c_size_t(len(room)))
    return list(struct.unpack(f"{size // 4}i", room.raw[:size]))


def _checked(result: int) -> int:
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


def _call(numbers: Dict[str, int], *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(numbers[os.uname().machine]), *arguments)
    return _checked(result)


def _write_segment(segment: int, data: bytes) -> None:
    _libc.shmat.restype = ctypes.c_void_p
    address = _libc.shmat(segment, None, 0)
    ctypes.memmove(address, data, len(data))
    _libc.shmdt(ctypes.c_void_p(address))


def _message_queue(stack: ExitStack, name: str) -> str:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    umask = os.umask(0)
    try:
        descriptor = _call(_MQ_OPEN, name.encode(), flags, 0o666, None)
    finally:
        os.umask(umask)
    os.close(descriptor)
    stack.callback(_call, _MQ_UNLINK, name.encode())
    return name


def _add_key(name: str, secret: str) -> int:
    """The number of a new key in this process's session keyring, which everybody who sees it may read."""
    data = secret.encode()
    key = _call(_ADD_KEY, b"user", name.encode(), data, ctypes.c_size_t(len(data)), _SESSION_KEYRING)
    _call(_KEYCTL, _SETPERM, key, ctypes.c_uint32(0x3F3F3F3F))
    return key
