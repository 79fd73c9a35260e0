"""Changes to files of a view, or of an unpacked layer, from outside of it: nothing is written through a link.

See `view_files`, by which all others use this.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterable, Iterator, Optional, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox.view_lookups import CONTENT, reach, refusal, status

Owner = Optional[Tuple[int, int]]
# (name, content), with a mode where it is not that of `write`.
NewFile = Union[Tuple[str, bytes], Tuple[str, bytes, int]]

_CAPABILITIES = "security.capability"


def make_file(root: Path, name: str) -> int:
    """The descriptor of a new file (mode 0600) in the place of whatever has its name. Raises ToolError where a link is on
    the way, a directory has the name, or one is missing."""
    with _parent(root, name) as (parent, base):
        _remove(parent, base, name)
        return os.open(base, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)


def write(root: Path, name: str, content: bytes, mode: int = 0o644, owner: Owner = None) -> None:
    """Write a file in the place of whatever has its name, with the directories that it needs.

    owner: (uid, gid) of all that is made. Raises ToolError where one of the directories is a link.
    """
    make_directories(root, os.path.dirname(name), owner=owner)
    with open(make_file(root, name), "wb") as out:
        out.write(content)
        _set(out.fileno(), mode, owner)


def write_all(root: Path, files: Iterable[NewFile], owner: Owner = None) -> None:
    """`write` for (name, content) or (name, content, mode)."""
    for file in files:
        write(root, file[0], file[1], file[2] if len(file) == 3 else 0o644, owner)


def overwrite(root: Path, name: str, content: bytes, mode: Optional[int] = None) -> None:
    """Write into a file that is there, which keeps its owner, and its mode unless one is given.

    Raises ToolError for a link, and for what is no file.
    """
    found = reach(root, name, os.O_WRONLY | CONTENT)
    with open(found, "wb") as out:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise ToolError(f"/{name} of a view is no regular file: it is not written to")
        out.truncate(0)
        out.write(content)
        if mode is not None:
            os.fchmod(found, mode)


def make_directories(root: Path, name: str, mode: int = 0o755, owner: Owner = None) -> None:
    """Make a directory and those above it that are missing; these get `mode` and `owner`. Raises ToolError for a link."""
    parts = [part for part in name.split("/") if part]
    for number in range(len(parts), 0, -1):
        if status(root, "/".join(parts[:number])) is not None:
            break
    else:
        number = 0
    _reach_directory(root, "/".join(parts[:number]))
    for end in range(number + 1, len(parts) + 1):
        make_directory(root, "/".join(parts[:end]), mode, owner)


def make_directory(root: Path, name: str, mode: int = 0o755, owner: Owner = None) -> None:
    """Make a directory. Raises ToolError where a link is on the way, or something has its name."""
    with _parent(root, name) as (parent, base):
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except OSError as error:
            raise refusal(root, name, error) from None
        made = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            _set(made, mode, owner)
        finally:
            os.close(made)


def make_link(root: Path, name: str, target: str, owner: Owner = None) -> None:
    """Make a symbolic link in the place of whatever has its name. Raises ToolError."""
    with _parent(root, name) as (parent, base):
        _remove(parent, base, name)
        os.symlink(target, base, dir_fd=parent)
        if owner is not None:
            os.chown(base, *owner, dir_fd=parent, follow_symlinks=False)


def make_hard_link(root: Path, first: str, name: str) -> None:
    """Give a file another name, in the place of whatever has it. Raises ToolError."""
    with _parent(root, first) as (source, source_base), _parent(root, name) as (parent, base):
        _remove(parent, base, name)
        os.link(source_base, base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)


def change_owner(root: Path, name: str, owner: Tuple[int, int]) -> None:
    """Give a file or directory to somebody. Raises ToolError for a link."""
    found = reach(root, name, os.O_RDONLY | CONTENT)
    try:
        os.fchown(found, *owner)
    finally:
        os.close(found)


def change_mode(root: Path, name: str, mode: int) -> None:
    """Give a file or directory a mode. Raises ToolError for a link."""
    found = reach(root, name, os.O_RDONLY | CONTENT)
    try:
        os.fchmod(found, mode)
    finally:
        os.close(found)


def give(root: Path, name: str, owner: Tuple[int, int]) -> None:
    """As `change_owner`, for whatever has the name. It keeps mode and capabilities, which a change of the owner takes away.

    Raises ToolError where a link is on the way, OSError."""
    with _parent(root, name) as (parent, base):
        found = os.stat(base, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            os.chown(base, *owner, dir_fd=parent, follow_symlinks=False)
            return
        opened = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | CONTENT | os.O_CLOEXEC, dir_fd=parent)
        try:
            kept = _capabilities(opened)
            os.fchown(opened, *owner)
            os.fchmod(opened, stat.S_IMODE(found.st_mode))
            if kept:
                os.setxattr(opened, _CAPABILITIES, kept)
        finally:
            os.close(opened)


def _capabilities(opened: int) -> bytes:
    try:
        return os.getxattr(opened, _CAPABILITIES)
    except OSError:
        return b""


def remove(root: Path, name: str) -> None:
    """Remove whatever has the name, if anything does. Raises ToolError for a directory, and for a link on the way."""
    with _parent(root, name) as (parent, base):
        _remove(parent, base, name)


@contextmanager
def keeping_times(root: Path, name: str) -> Iterator[None]:
    """What happens in a directory does not change its time. Raises ToolError where it is none, or a link."""
    found = reach(root, name, os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = os.fstat(found)
        yield
        os.utime(found, ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        os.close(found)


def remove_if_empty(root: Path, name: str) -> None:
    """Remove a directory in which there is nothing. Raises ToolError for a link on the way."""
    with _parent(root, name) as (parent, base), suppress(OSError):
        os.rmdir(base, dir_fd=parent)


def remove_directory(root: Path, name: str) -> None:
    """Remove a directory with all that is in it. Raises ToolError for a link on the way, OSError."""
    with _parent(root, name) as (parent, base):
        remove_tree(Path(f"/proc/self/fd/{parent}", base))


def _reach_directory(root: Path, name: str) -> None:
    os.close(reach(root, name, os.O_PATH | os.O_DIRECTORY))


@contextmanager
def _parent(root: Path, name: str) -> Iterator[Tuple[int, str]]:
    """A descriptor of a name's directory, and the name in there."""
    directory, base = os.path.split(name)
    if base in ("", ".", ".."):
        raise ToolError(f"{name!r} names no file of a view")
    found = reach(root, directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield found, base
    finally:
        os.close(found)


def _remove(parent: int, base: str, name: str) -> None:
    try:
        os.unlink(base, dir_fd=parent)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise ToolError(f"/{name} is a directory that a package's layer has made, in the place of a file") from None


def _set(descriptor: int, mode: int, owner: Owner) -> None:
    # The owner first: a change takes set-uid away.
    if owner is not None:
        os.fchown(descriptor, *owner)
    os.fchmod(descriptor, mode)
