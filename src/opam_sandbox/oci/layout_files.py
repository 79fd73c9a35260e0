"""Opens files of a layout that somebody else wrote: regular files of the layout itself, never what a link there leads to."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator

from opam_sandbox import strict_json
from opam_sandbox.digests import hex_of
from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import open_in_root

BLOBS = "blobs/sha256"
# Neither a FIFO nor a terminal is to hold this process.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


def blob_name(digest: str, where: str) -> str:
    """What a layout calls the blob of a digest. Raises ToolError for what is no digest."""
    return f"{BLOBS}/{hex_of(digest, where)}"


@contextmanager
def opened(layout: Path, name: str) -> Iterator[int]:
    """The descriptor of a regular file of a layout. Raises ToolError where it is none or not there.

    The way to the layout may have links; in the layout there are none.
    """
    descriptor = _open(layout, name, _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ToolError(f"{layout / name}: it is no regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def size_of(layout: Path, name: str) -> int:
    """The size of a regular file of a layout, -1 where nothing has the name. Raises ToolError for anything else there.

    The file is opened: on NFS that asks the server, while a mere stat may be answered from what this machine remembers.
    """
    try:
        with opened(layout, name) as descriptor:
            return os.fstat(descriptor).st_size
    except MissingError:
        return -1


def read_object(layout: Path, name: str) -> Dict[str, Any]:
    """The JSON object in a file of a layout. Raises ToolError where there is none."""
    return strict_json.parse_object(read(layout, name), os.fspath(layout / name))


def read(layout: Path, name: str) -> bytes:
    """What a JSON file of a layout holds. Raises ToolError where it is no regular file or too large."""
    with opened(layout, name) as descriptor:
        try:
            return strict_json.read_descriptor(descriptor, os.fspath(layout / name))
        except OSError as error:
            raise ToolError(f"{layout / name}: it cannot be read: {error.strerror}") from None


def check_directories(layout: Path, *names: str) -> None:
    """Raise ToolError for one of the names, relative to the layout, that is there and no directory, or behind a link."""
    for name in names:
        try:
            os.close(_open(layout, name, os.O_PATH | os.O_DIRECTORY))
        except MissingError:
            continue


class MissingError(ToolError):
    """Nothing has the name."""


def _mode(top: int, name: str) -> int:
    found = open_in_root.open_at(top, name, os.O_PATH | os.O_NOFOLLOW, crossing=True)
    try:
        return os.fstat(found).st_mode
    finally:
        os.close(found)


def _open(layout: Path, name: str, flags: int) -> int:
    path = layout / name
    try:
        with open_in_root.directory(Path(os.path.realpath(layout))) as top:
            mode = _mode(top, name)  # first: to open a device may do something
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                kind = "a link: nothing in a layout is one" if stat.S_ISLNK(mode) else "neither file nor directory"
                raise ToolError(f"{path}: it is {kind}")
            return open_in_root.open_at(top, name, flags, crossing=True)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ToolError(f"{path}: it is behind a link: nothing in a layout is one") from None
        kind_of = MissingError if error.errno == errno.ENOENT else ToolError
        raise kind_of(f"{path}: it cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ToolError(f"{path}: it cannot be read: {error}") from None
