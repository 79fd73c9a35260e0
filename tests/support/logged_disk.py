"""A disk that keeps a log of all that is written to it, so that it can be had as it was when the power went at any moment.

A disk may hold writes back, in any order, until it is told to flush. So a power loss leaves all that was written before the
last flush, and any part of what came after. Copies of a disk's file do not show that; a log of writes and flushes does. Linux
has dm-log-writes for this, where its kernel was built with it. This here needs FUSE and loop devices: a file system with
two files, `disk`, which a loop device stands on, and `mark`, whose lines go into the log between the writes.

The log's file: records of struct _RECORD, and as many bytes as each says.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional

from opam_sandbox.sandbox import syscalls
from tests.support.disks import NoDiskError

_RECORD = struct.Struct("=cQI")  # kind, offset, length
WRITE, FLUSH, MARK = b"w", b"f", b"m"
# What a disk writes as a whole.
_SECTOR = 4096

# linux/fuse.h
_IN, _OUT = struct.Struct("=IIQQIIIHH"), struct.Struct("=IiQ")
_ATTR = struct.Struct("=6Q10I")
_RANGE = struct.Struct("=QQIIQII")  # struct fuse_read_in, fuse_write_in
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _WRITE, _STATFS = 1, 2, 3, 14, 15, 16, 17
_RELEASE, _FSYNC, _FLUSH, _INIT, _INTERRUPT, _DESTROY, _BATCH_FORGET = 18, 20, 25, 26, 36, 38, 42
_DIRECT_IO = 1
_MAX_WRITE = 1 << 17
_TOP, _DISK, _MARK = 1, 2, 3
_NAMES = {b"disk": _DISK, b"mark": _MARK}


@dataclass(frozen=True)
class Record:
    """`data`: of a write its bytes, of a mark its text, without the end of line."""

    kind: bytes
    offset: int
    data: bytes


class _Server:
    """Answers the kernel: `disk` is in memory, and what is done to it in the log."""

    def __init__(self, connection: int, content: bytearray, log: Path) -> None:
        self._connection = connection
        self._content = content
        self._log = open(log, "wb")

    def run(self) -> None:
        while True:
            try:
                request = os.read(self._connection, _MAX_WRITE + 4096)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                break  # ENODEV: unmounted
            opcode, unique, node = struct.unpack_from("=4xIQQ", request)
            if opcode in (_FORGET, _BATCH_FORGET, _INTERRUPT):
                continue
            try:
                number, answer = 0, self._answer(opcode, node, memoryview(request)[_IN.size :])
            except OSError as error:
                number, answer = error.errno or errno.EIO, b""
            os.write(self._connection, _OUT.pack(_OUT.size + len(answer), -number, unique) + answer)
            if opcode == _DESTROY:
                break
        self._log.close()

    def _answer(self, opcode: int, node: int, body: memoryview) -> bytes:
        if opcode == _INIT:
            major, _, readahead = struct.unpack_from("=III", body)
            return struct.pack("=IIIIHHIIHHII24x", major, 31, readahead, 0, 16, 12, _MAX_WRITE, 1, 0, 0, 0, 0)
        if opcode == _LOOKUP:
            found = _NAMES.get(bytes(body).rstrip(b"\0"))
            if found is None:
                raise OSError(errno.ENOENT, "")
            return struct.pack("=QQQQII", found, 0, 3600, 3600, 0, 0) + self._attributes(found)
        if opcode == _GETATTR:
            return struct.pack("=QII", 3600, 0, 0) + self._attributes(node)
        if opcode == _OPEN:
            return struct.pack("=QIi", 0, _DIRECT_IO, 0)
        if opcode == _READ:
            _, offset, size, *_ = _RANGE.unpack_from(body)
            return bytes(self._content[offset : offset + size])
        if opcode == _WRITE:
            _, offset, size, *_ = _RANGE.unpack_from(body)
            self._write(node, offset, bytes(body[_RANGE.size : _RANGE.size + size]))
            return struct.pack("=II", size, 0)
        if opcode == _FSYNC:
            self._note(FLUSH, 0, b"")
            return b""
        if opcode in (_FLUSH, _RELEASE, _DESTROY):
            return b""
        if opcode == _STATFS:
            return struct.pack("=5Q4I24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)
        raise OSError(errno.ENOSYS, "")

    def _write(self, node: int, offset: int, data: bytes) -> None:
        if node == _MARK:
            self._note(MARK, 0, data)
        else:
            self._content[offset : offset + len(data)] = data
            self._note(WRITE, offset, data)

    def _note(self, kind: bytes, offset: int, data: bytes) -> None:
        self._log.write(_RECORD.pack(kind, offset, len(data)) + data)

    def _attributes(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o755 if node == _TOP else stat.S_IFREG | 0o600
        size = len(self._content) if node == _DISK else 0
        return _ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


@contextmanager
def logged(image: Path, at: Path, log: Path) -> Iterator[None]:
    """Have `at/disk`, with what `image` holds, and `at/mark`; the log is whole when the context has ended.

    `image` is not changed. Raises NoDiskError.
    """
    at.mkdir(exist_ok=True)
    content = bytearray(image.read_bytes())
    try:
        connection = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={connection},rootmode=40000,user_id=0,group_id=0"
        syscalls.mount("logged", at, "fuse.logged", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    except OSError as error:
        raise NoDiskError(f"no FUSE here: {error}") from None
    server = os.fork()
    if server == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _Server(connection, content, log).run()
        finally:
            os._exit(0)
    os.close(connection)
    try:
        yield
    finally:
        syscalls.umount(at)
        os.waitpid(server, 0)


def read_log(log: Path) -> List[Record]:
    """All records of a log, in their order."""
    data, at, records = log.read_bytes(), 0, []
    while at < len(data):
        kind, offset, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        records.append(
            Record(kind, offset, data[at : at + length].rstrip(b"\n") if kind == MARK else data[at : at + length])
        )
        at += length
    return records


def after_power_loss(image: bytes, records: List[Record], end: int, chance: Optional[random.Random]) -> bytearray:
    """The disk when the power went after the first `end` records: `image` with what was flushed, and a part of the rest.

    chance: chooses sectors; None: what was written is there, to the last byte.
    """
    disk = bytearray(image)
    flushed = max((number for number in range(end) if records[number].kind == FLUSH), default=0)
    share = chance.choice((0.0, 0.2, 0.5, 0.8, 1.0)) if chance else 1.0
    for number, record in enumerate(records[:end]):
        if record.kind != WRITE:
            continue
        if number < flushed or chance is None:
            disk[record.offset : record.offset + len(record.data)] = record.data
            continue
        for start in range(0, len(record.data), _SECTOR):
            if chance.random() < share:
                piece = record.data[start : start + _SECTOR]
                disk[record.offset + start : record.offset + start + len(piece)] = piece
    return disk
