"""Files of a view, or of an unpacked layer, for code that stands outside of it.

Packages made these files, their links among them. Nothing outside of a view follows a link that was made inside one: a
name is either refused where a link is on its way (all that writes), or its links are followed as a process inside sees them,
with `root` as their root (all that only reads).

In all functions `root` is a directory that this process made or mounted, and names are relative to it, with `/` between
components. All is done by descriptors (see `open_in_root`), so that processes which still run in the view change nothing of
this. What is mounted in a view is not found from its root: names below its /tmp are looked up with `root / "tmp"` as `root`.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator, List, Optional, Tuple, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.sandbox import open_in_root

Owner = Optional[Tuple[int, int]]
# (name, content), with a mode where it is not that of `write`.
NewFile = Union[Tuple[str, bytes], Tuple[str, bytes, int]]

_ITSELF = os.O_PATH | os.O_NOFOLLOW
# Neither a FIFO nor a terminal is to hold this process.
_CONTENT = os.O_NONBLOCK | os.O_NOCTTY
_CAPABILITIES = "security.capability"

# -- what is there -----------------------------------------------------------


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
        os.close(_open(root, name, os.O_PATH, links=True))
    except OSError:
        return False
    return True


def status(root: Path, name: str) -> Optional[os.stat_result]:
    """What lstat(2) says of a name; None where there is nothing, or only behind a link."""
    try:
        found = _open(root, name, _ITSELF)
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
    found = _open(root, name, _ITSELF)
    try:
        return os.readlink("", dir_fd=found)
    finally:
        os.close(found)


def names(root: Path, name: str, links: bool = True) -> List[str]:
    """The names in a directory, sorted, links to the directory followed inside of `root`; none where it is none."""
    try:
        found = _open(root, name, os.O_RDONLY | os.O_DIRECTORY, links)
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
        found = _open(root, directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(found) as entries:
                listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        finally:
            os.close(found)
        paths = [(os.path.join(directory, entry), is_directory) for entry, is_directory in listed]
        yield from (path for path, is_directory in paths if not is_directory)
        waiting += [path for path, is_directory in reversed(paths) if is_directory]


# -- reading -----------------------------------------------------------------


def open_file(root: Path, name: str, links: bool = True) -> Optional[BinaryIO]:
    """A regular file, open for reading; None where there is none. Raises OSError for one that may not be read.

    Links are followed inside of `root`; with `links=False`, a name with a link in it counts as no file.
    """
    try:
        # What it is comes first: to open a device may do something.
        found = _open(root, name, os.O_PATH, links)
    except OSError:
        return None
    try:
        seen = os.fstat(found)
    finally:
        os.close(found)
    if not stat.S_ISREG(seen.st_mode):
        return None
    file = open(_open(root, name, os.O_RDONLY | _CONTENT, links), "rb")
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


# -- writing -----------------------------------------------------------------


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
    found = _reach(root, name, os.O_WRONLY | _CONTENT)
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
            raise _refusal(root, name, error) from None
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
    found = _reach(root, name, os.O_RDONLY | _CONTENT)
    try:
        os.fchown(found, *owner)
    finally:
        os.close(found)


def change_mode(root: Path, name: str, mode: int) -> None:
    """Give a file or directory a mode. Raises ToolError for a link."""
    found = _reach(root, name, os.O_RDONLY | _CONTENT)
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
        opened = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | _CONTENT | os.O_CLOEXEC, dir_fd=parent)
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
    found = _reach(root, name, os.O_RDONLY | os.O_DIRECTORY)
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


# -- mounting ----------------------------------------------------------------


@contextmanager
def mount_point(root: Path, name: str) -> Iterator[str]:
    """A path that leads mount(2) and umount(2) to this very file or directory, or to what is mounted there.

    Raises ToolError for a link. /proc must be mounted outside of the view.
    """
    found = _reach(root, name, os.O_PATH, crossing=True)
    try:
        yield f"/proc/self/fd/{found}"
    finally:
        os.close(found)


def _open(root: Path, name: str, flags: int, links: bool = False, crossing: bool = False) -> int:
    with open_in_root.directory(root) as top:
        return open_in_root.open_at(top, name, flags, links, crossing)


def _reach(root: Path, name: str, flags: int, crossing: bool = False) -> int:
    try:
        return _open(root, name, flags, crossing=crossing)
    except OSError as error:
        raise _refusal(root, name, error) from None


def _reach_directory(root: Path, name: str) -> None:
    os.close(_reach(root, name, os.O_PATH | os.O_DIRECTORY))


@contextmanager
def _parent(root: Path, name: str) -> Iterator[Tuple[int, str]]:
    """A descriptor of a name's directory, and the name in there."""
    directory, base = os.path.split(name)
    if base in ("", ".", ".."):
        raise ToolError(f"{name!r} names no file of a view")
    found = _reach(root, directory, os.O_PATH | os.O_DIRECTORY)
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


def _refusal(root: Path, name: str, error: OSError) -> ToolError:
    """Why a name is not used: the link on its way, if there is one."""
    parts = [part for part in name.split("/") if part]
    for number in range(1, len(parts) + 1):
        path = "/".join(parts[:number])
        if is_link(root, path):
            return ToolError(f"/{path} is a symlink that a package's layer has made. Nothing is written through it.")
    if error.errno == errno.EXDEV:
        return ToolError(f"/{name} is not of the view's own files: something is mounted on its way")
    return ToolError(f"/{name} of a view cannot be used: {error.strerror}")
