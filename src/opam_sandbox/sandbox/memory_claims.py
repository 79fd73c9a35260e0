"""What builds that run at the same time may take of the machine's memory: each says so before it takes any.

Memory that a build may fill but has not filled yet looks free to the next one. So each has a record while it runs: a file
that holds the number of bytes, and that its process has locked (flock). A record that nobody holds is of a dead process.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from opam_sandbox.sandbox import memory
from opam_sandbox.sandbox.scratch import NO_LOCKS


@contextmanager
def claimed(records: Path) -> Iterator[int]:
    """The `memory.room` of a build, in bytes, which is this process's as long as the context; 0 where others leave too little.

    records: a directory (made if it is not there) that all builds share. Processes that are forked meanwhile hold the claim as
    well. Raises OSError.
    """
    records.mkdir(exist_ok=True)
    record, held, size = records / os.urandom(8).hex(), -1, 0
    top = os.open(records, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(top, fcntl.LOCK_EX)  # one after the other: nobody claims what somebody else is about to
            size = memory.room_for_one(_others(records))
            if size:
                held = os.open(record, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.flock(held, fcntl.LOCK_EX)
                os.write(held, b"%d" % size)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            size = size or memory.room_for_one()
        finally:
            os.close(top)
        yield size
    finally:
        if held >= 0:
            with suppress(FileNotFoundError):
                record.unlink()
            os.close(held)


def _others(records: Path) -> int:
    """How many bytes living processes have claimed. Removes the records of dead ones."""
    found = 0
    for record in records.iterdir():
        try:
            held = os.open(record, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # its owner has just removed it
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            record.unlink()
        except BlockingIOError:
            with suppress(ValueError):
                found += int(os.read(held, 32))
        finally:
            os.close(held)
    return found
