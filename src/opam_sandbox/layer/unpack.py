"""Unpacks a layer's tar into a directory that overlayfs takes as a lower directory.

OCI whiteouts become overlayfs's: `.wh.NAME` a character device 0:0, `.wh..wh..opq` the xattr `overlay.opaque`.
Nothing is ever written outside the directory: every name is checked, and parents are never followed through links.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Set

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.holes import ZEROS
from opam_sandbox.layer.read_tar import Member, Readable, TarReader
from opam_sandbox.sandbox import layer_paths

# What overlayfs keeps for itself: from an archive it would redirect or hide what lies below. The other is the machine's.
IGNORED_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"security.selinux")

# Directories that an archive has no entries for: a name of a few thousand bytes can need a thousand.
MOST_IMPLIED = 1_000_000


def unpack(stream: Readable, target: Path, rootless: bool, title: str = "a layer") -> int:
    """Unpack an uncompressed tar stream below `target` (an empty directory); returns the number of entries.

    rootless: owners and device nodes are left out, since a user may not make them. Raises ToolError for an archive that is
    damaged, unsafe or cannot be unpacked here; the directory is of no use then. `title` names the layer in the message.
    """
    count = 0
    try:
        with _short_path(target) as root:
            archive = TarReader(stream, title)
            unpacking = _Unpacking(archive, root, rootless)
            for member in archive:
                count += 1
                unpacking.add(member)
            unpacking.finish()
    except (ValueError, OverflowError, EOFError) as error:
        # OverflowError: numbers that no system call takes.
        raise ToolError(f"{title}: its archive is damaged: {error}") from None
    except (OSError, zlib.error) as error:
        if isinstance(error, OSError) and machine_errors.is_of_machine(error):
            raise  # the archive is not to blame
        raise ToolError(f"{title}: its archive does not unpack: {error}") from error
    return count


@contextmanager
def _short_path(target: Path) -> Iterator[bytes]:
    """The directory by a path of a few bytes: what a layer can hold does not depend on where it is unpacked."""
    descriptor = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield b"/proc/self/fd/%d/." % descriptor
    finally:
        os.close(descriptor)


class _Unpacking:
    """What an archive has made below `root` until now."""

    def __init__(self, archive: TarReader, root: bytes, rootless: bool) -> None:
        self._archive = archive
        self._root = root
        self._rootless = rootless
        self._directories: Dict[bytes, Member] = {}
        self._real: Set[bytes] = {root}
        self._implied = 0
        self._deleted: Set[bytes] = set()
        self._left_out: Set[bytes] = set()

    def add(self, member: Member) -> None:
        """Make what one entry of the archive says."""
        path = os.path.join(self._root, member.name) if member.name else self._root
        if member.name:
            self._make_parents(os.path.dirname(path))
        if member.hides is not None:
            self._hide(os.path.dirname(path), member.hides)
        elif member.kind == tar_headers.DIRECTORY:
            self._make_directory(path, member)
        elif member.kind == tar_headers.HARDLINK:
            self._link(member, path)  # one inode: everything was set with its first name
        elif self._make_file(member, path):
            _set_metadata(member, path, self._rootless)

    def finish(self) -> None:
        """Directories' own metadata, last of all and the innermost first: an entry changes its directory's time, gets its
        default attributes, and needs its permission, which a user's own mode may withhold."""
        for path in sorted(self._directories, key=lambda path: path.count(b"/"), reverse=True):
            _set_metadata(self._directories[path], path, self._rootless)

    def _make_parents(self, parent: bytes) -> None:
        missing: List[bytes] = []
        while parent not in self._real:
            missing.append(parent)
            parent = os.path.dirname(parent)
        for path in reversed(missing):
            if not _is_directory(path):
                if not self._is_whiteout(path) and os.path.lexists(path):
                    raise self._archive.refused(f"something below {self._shown(path)}, which is not a directory")
                self._implied += 1
                if self._implied > MOST_IMPLIED:
                    raise self._archive.refused(
                        f"names in more than {MOST_IMPLIED} directories that it has no entries for"
                    )
                self._make_new_directory(path, 0o755)
            self._real.add(path)

    def _make_new_directory(self, path: bytes, mode: int) -> None:
        # A directory in the place of something else shows nothing of what lies below.
        opaque = os.path.lexists(path)
        if opaque:
            self._remove(path)
        os.mkdir(path, mode)
        if opaque:
            os.setxattr(path, layer_paths.opaque_attribute(self._rootless), b"y")

    def _make_directory(self, path: bytes, member: Member) -> None:
        if member.name and not _is_directory(path):
            self._make_new_directory(path, 0o700)
        self._directories.pop(path, None)
        self._directories[path] = member
        self._real.add(path)

    def _hide(self, parent: bytes, name: bytes) -> None:
        """A whiteout: it hides what lies below, not what this layer itself puts there, before or after."""
        if not name:
            os.setxattr(parent, layer_paths.opaque_attribute(self._rootless), b"y")
            return
        path = os.path.join(parent, name)
        self._deleted.add(path)
        if _is_directory(path):
            os.setxattr(path, layer_paths.opaque_attribute(self._rootless), b"y")
        elif not os.path.lexists(path):
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))

    def _link(self, member: Member, path: bytes) -> None:
        source = os.path.join(self._root, member.linkname) if member.linkname else self._root
        if source in self._left_out:
            self._left_out.add(path)
            return
        if not self._is_linkable(source):
            target = repr(os.fsdecode(member.linkname))
            raise self._archive.refused(f"a hard link {member.shown} that names no file of it: {target}")
        if source != path:
            self._remove(path)
            os.link(source, path, follow_symlinks=False)

    def _is_linkable(self, source: bytes) -> bool:
        if source == self._root or os.path.dirname(source) not in self._real or self._is_whiteout(source):
            return False
        return os.path.lexists(source) and not _is_directory(source)

    def _make_file(self, member: Member, path: bytes) -> bool:
        """Make anything but a directory and a hard link. False where a user may not make it."""
        device = member.kind in (tar_headers.CHARDEV, tar_headers.BLOCKDEV)
        if device and self._rootless:
            self._left_out.add(path)
            return False
        self._left_out.discard(path)
        self._remove(path)
        if member.kind == tar_headers.REGULAR:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "wb") as out:  # buffered: a raw file may write less than it is given
                for data in self._archive.content():
                    if data == ZEROS:
                        out.seek(len(data), os.SEEK_CUR)  # a hole, as it may have been where the layer was made
                    else:
                        out.write(data)
                out.truncate()
        elif member.kind == tar_headers.SYMLINK:
            os.symlink(member.linkname, path)
        elif member.kind == tar_headers.FIFO:
            os.mkfifo(path, 0o600)
        else:
            kind = stat.S_IFCHR if member.kind == tar_headers.CHARDEV else stat.S_IFBLK
            os.mknod(path, kind | 0o600, os.makedev(member.major, member.minor))
        return True

    def _remove(self, path: bytes) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise self._archive.refused(f"both a directory and a file named {self._shown(path)}") from None

    def _is_whiteout(self, path: bytes) -> bool:
        # No other device is 0:0: the reader refuses them.
        return path in self._deleted and _is_deletion(path)

    def _shown(self, path: bytes) -> str:
        return repr(os.fsdecode(path[len(self._root) + 1 :]))


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _is_deletion(path: bytes) -> bool:
    found = os.lstat(path)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _set_metadata(member: Member, path: bytes, rootless: bool) -> None:
    if not rootless:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if member.kind != tar_headers.SYMLINK:
        os.chmod(path, member.mode)
    for key, value in member.xattrs.items():
        if key.startswith(IGNORED_XATTRS):
            continue
        try:
            os.setxattr(path, key, value, follow_symlinks=False)
        except OSError as error:
            if not rootless or error.errno == errno.ENOSPC:
                raise
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
