"""What is in a view, or in an unpacked layer, for code that stands outside of it: names looked up, files read.

See `view_files`, by which all others use this.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator, List, Optional

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import open_in_root

_ITSELF = os.O_PATH | os.O_NOFOLLOW
# Neither a FIFO nor a terminal is to hold this process.
CONTENT = os.O_NONBLOCK | os.O_NOCTTY


def resolve(root: Path, name: str) -> Optional[str]:
    """The name without links, all of them taken as inside of `root`; None where it leads nowhere."""
    try:
        with open_in_root.directory(root) as top:
            return open_in_root.real_name(top, name)
    except OSError:
        return None


def exists(root: Path, name: str) -> bool:
    """Whether there is something of this name, links followed inside of `root`."""
    try:
        os.close(open_name(root, name, os.O_PATH, links=True))
    except OSError:
        return False
    return True


def status(root: Path, name: str) -> Optional[os.stat_result]:
    """What lstat(2) says of a name; None where there is nothing, or only behind a link."""
    try:
        found = open_name(root, name, _ITSELF)
    except OSError:
        return None
    try:
        return os.fstat(found)
    finally:
        os.close(found)


def is_link(root: Path, name: str) -> bool:
    """Whether the name itself is a link."""
    found = status(root, name)
    return found is not None and stat.S_ISLNK(found.st_mode)


def is_directory(root: Path, name: str) -> bool:
    """Whether the name itself is a directory."""
    found = status(root, name)
    return found is not None and stat.S_ISDIR(found.st_mode)


def read_link(root: Path, name: str) -> str:
    """Where a link says it leads. Raises OSError where it is none."""
    found = open_name(root, name, _ITSELF)
    try:
        return os.readlink("", dir_fd=found)
    finally:
        os.close(found)


def names(root: Path, name: str, links: bool = True) -> List[str]:
    """The names in a directory, sorted, links to the directory followed inside of `root`; none where it is none."""
    try:
        found = open_name(root, name, os.O_RDONLY | os.O_DIRECTORY, links)
    except OSError:
        return []
    try:
        return sorted(os.listdir(found))
    finally:
        os.close(found)


def walk(root: Path, name: str = "") -> Iterator[str]:
    """The names of all that is below a directory and no directory itself, links among them, in order. Raises OSError."""
    waiting = [name]
    while waiting:
        directory = waiting.pop()
        found = open_name(root, directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(found) as entries:
                listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        finally:
            os.close(found)
        paths = [(os.path.join(directory, entry), is_directory) for entry, is_directory in listed]
        yield from (path for path, is_directory in paths if not is_directory)
        waiting += [path for path, is_directory in reversed(paths) if is_directory]


def open_file(root: Path, name: str, links: bool = True) -> Optional[BinaryIO]:
    """A regular file, open for reading; None where there is none. Raises OSError for one that may not be read.

    Links are followed inside of `root`; with `links=False`, a name with a link in it counts as no file.
    """
    try:
        # What it is comes first: to open a device may do something.
        found = open_name(root, name, os.O_PATH, links)
    except OSError:
        return None
    try:
        seen = os.fstat(found)
    finally:
        os.close(found)
    if not stat.S_ISREG(seen.st_mode):
        return None
    file = open(open_name(root, name, os.O_RDONLY | CONTENT, links), "rb")
    if os.path.samestat(os.fstat(file.fileno()), seen):
        return file
    file.close()
    return None


def read(root: Path, name: str, links: bool = True) -> Optional[bytes]:
    """What a file holds; None where `open_file` gives none. Raises OSError."""
    file = open_file(root, name, links)
    if file is None:
        return None
    with file:
        return file.read()


def read_text(root: Path, name: str, links: bool = True) -> Optional[str]:
    """As `read`: UTF-8, with undecodable bytes as surrogates."""
    content = read(root, name, links)
    return None if content is None else content.decode("utf-8", "surrogateescape")


@contextmanager
def mount_point(root: Path, name: str) -> Iterator[str]:
    """A path that leads mount(2) and umount(2) to this very file or directory, or to what is mounted there.

    Raises ToolError for a link. /proc must be mounted outside of the view.
    """
    found = reach(root, name, os.O_PATH, crossing=True)
    try:
        yield f"/proc/self/fd/{found}"
    finally:
        os.close(found)


def open_name(root: Path, name: str, flags: int, links: bool = False, crossing: bool = False) -> int:
    """A descriptor of a name. crossing: what is mounted on the way is entered. Raises OSError."""
    with open_in_root.directory(root) as top:
        return open_in_root.open_at(top, name, flags, links, crossing)


def reach(root: Path, name: str, flags: int, crossing: bool = False) -> int:
    """As `open_name`, of a name that no link is on the way to. Raises ToolError that says which one is."""
    try:
        return open_name(root, name, flags, crossing=crossing)
    except OSError as error:
        raise refusal(root, name, error) from None


def refusal(root: Path, name: str, error: OSError) -> ToolError:
    """Why a name is not used: the link on its way, if there is one."""
    parts = [part for part in name.split("/") if part]
    for number in range(1, len(parts) + 1):
        path = "/".join(parts[:number])
        if is_link(root, path):
            return ToolError(f"/{path} is a symlink that a package's layer has made. Nothing is written through it.")
    if error.errno == errno.EXDEV:
        return ToolError(f"/{name} is not of the view's own files: something is mounted on its way")
    return ToolError(f"/{name} of a view cannot be used: {error.strerror}")
