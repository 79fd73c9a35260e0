"""Unpacks a layer's tar into a directory that overlayfs takes as a lower directory.

OCI whiteouts become overlayfs's: `.wh.NAME` a character device 0:0, `.wh..wh..opq` the xattr `overlay.opaque`.
Nothing is ever written outside the directory: every name is checked, and parents are never followed through links.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zlib
from pathlib import Path
from typing import IO, Dict, List, Set, Tuple, cast

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.read_blob import Readable

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"

# What overlayfs keeps for itself: from an archive it would redirect or hide what lies below.
_OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")


def opaque_xattr(rootless: bool) -> str:
    """The attribute that marks a directory as opaque for overlayfs."""
    return "user.overlay.opaque" if rootless else "trusted.overlay.opaque"


def unpack(stream: Readable, target: Path, rootless: bool, title: str = "a layer") -> int:
    """Unpack an uncompressed tar stream below `target` (an empty directory); returns the number of entries.

    rootless: owners and device nodes are left out, since a user may not make them. Raises ToolError for an archive that is
    damaged, unsafe or cannot be unpacked here; the directory is of no use then. `title` names the layer in the message.
    """
    try:
        return _unpack(stream, os.fsencode(target), rootless)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        # ValueError: names with NUL; OverflowError: numbers that no system call takes.
        raise ToolError(f"{title}: its archive is damaged: {error}") from None
    except (OSError, zlib.error) as error:
        raise ToolError(f"{title}: its archive does not unpack: {error}") from None


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header, or no more bytes, for the archive's end; here only the end marker is that."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_StrictTarInfo":
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(str(error)) from None


def _unpack(stream: Readable, root: bytes, rootless: bool) -> int:
    count = 0
    with tarfile.open(
        fileobj=cast(IO[bytes], stream),
        mode="r|",
        bufsize=1 << 20,
        errorlevel=2,
        encoding="utf-8",
        errors="surrogateescape",
        tarinfo=_StrictTarInfo,
    ) as archive:
        unpacking = _Unpacking(archive, root, rootless)
        for member in archive:
            count += 1
            unpacking.add(member)
        unpacking.finish()
    return count


class _Unpacking:
    """What an archive has made below `root` until now."""

    def __init__(self, archive: tarfile.TarFile, root: bytes, rootless: bool) -> None:
        self._archive = archive
        self._root = root
        self._rootless = rootless
        self._directories: List[Tuple[bytes, float]] = []
        self._closed: Dict[bytes, int] = {}
        self._parents: Set[bytes] = {root}
        self._deleted: Set[bytes] = set()

    def add(self, member: tarfile.TarInfo) -> None:
        """Make what one entry of the archive says."""
        relative = relative_name(member.name)
        path = os.path.join(self._root, relative) if relative else self._root
        parent, name = os.path.split(path)
        if relative:
            _make_parents(self._root, parent, self._parents)
        if relative and name.startswith(WHITEOUT):
            if name == OPAQUE:
                os.setxattr(parent, opaque_xattr(self._rootless), b"y")
            else:
                _delete(parent, name[len(WHITEOUT) :], self._deleted, self._rootless)
        elif member.isdir():
            self._make_directory(path, relative)
            self._directories.append((path, member.mtime))
            _set_metadata(member, path, self._rootless)
            self._open(path, member.mode)
        elif member.islnk():
            self._link(member, path)  # one inode: everything was set with its first name
        elif self._make_file(member, path):
            _set_metadata(member, path, self._rootless)

    def finish(self) -> None:
        """Last of all, since making an entry changes its directory's time, and needs its directory's permission."""
        for path, mtime in reversed(self._directories):
            os.utime(path, (mtime, mtime))
            if path in self._closed:
                os.chmod(path, self._closed.pop(path))

    def _open(self, path: bytes, mode: int) -> None:
        """Let this user make what is in a directory, whatever the mode that the directory is to have."""
        self._closed.pop(path, None)
        if self._rootless and mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(path, mode | stat.S_IRWXU)
            self._closed[path] = mode

    def _make_directory(self, path: bytes, relative: bytes) -> None:
        if relative and not _is_directory(path):
            _remove(path)
            os.mkdir(path, 0o700)
            if path in self._deleted:
                os.setxattr(path, opaque_xattr(self._rootless), b"y")
        self._parents.add(path)

    def _link(self, member: tarfile.TarInfo, path: bytes) -> None:
        source = os.path.join(self._root, relative_name(member.linkname))
        _refuse_links(self._root, os.path.dirname(source))
        if source != path:
            _remove(path)
            os.link(source, path, follow_symlinks=False)
        elif not os.path.lexists(path):
            raise ToolError(f"a layer holds a hard link to itself: {member.name!r}")

    def _make_file(self, member: tarfile.TarInfo, path: bytes) -> bool:
        """Make anything but a directory and a hard link. False where a user may not make it."""
        if member.isreg():
            _remove(path)
            _write_file(self._archive, member, path)
        elif member.issym():
            _remove(path)
            os.symlink(os.fsencode(member.linkname), path)
        elif member.isfifo() or member.ischr() or member.isblk():
            if self._rootless and not member.isfifo():
                return False
            _remove(path)
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK if member.isblk() else stat.S_IFIFO
            os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
        else:
            raise ToolError(f"a layer holds an entry of unknown kind {member.type!r}: {member.name!r}")
        return True


def _delete(parent: bytes, name: bytes, deleted: Set[bytes], rootless: bool) -> None:
    """A whiteout: it hides `name` of the layers below, not what this layer itself puts there, before or after."""
    if name in (b"", b".", b".."):
        raise ToolError(f"a layer holds a whiteout without a name: {os.fsdecode(WHITEOUT + name)!r}")
    path = os.path.join(parent, name)
    deleted.add(path)
    if _is_directory(path):
        os.setxattr(path, opaque_xattr(rootless), b"y")
    elif not os.path.lexists(path):
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))


def relative_name(name: str) -> bytes:
    """The name of a tar's entry, relative to the root and without `.`. Raises ToolError for one that leads elsewhere."""
    parts = [part for part in os.fsencode(name).split(b"/") if part not in (b"", b".")]
    if b".." in parts or name.startswith("/"):
        raise ToolError(f"a layer holds an unsafe name: {name!r}")
    return b"/".join(parts)


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _make_parents(root: bytes, parent: bytes, made: Set[bytes]) -> None:
    if parent in made:
        return
    _make_parents(root, os.path.dirname(parent), made)
    if not _is_directory(parent):
        if os.path.lexists(parent):
            raise ToolError(f"a layer writes through {os.fsdecode(parent[len(root) :])!r}, which is not a directory")
        os.mkdir(parent, 0o755)
    made.add(parent)


def _refuse_links(root: bytes, directory: bytes) -> None:
    while len(directory) > len(root):
        if not _is_directory(directory):
            raise ToolError(f"a layer links through {os.fsdecode(directory[len(root) :])!r}, which is not a directory")
        directory = os.path.dirname(directory)


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise ToolError(f"a layer has both a directory and a file named {os.fsdecode(path)!r}") from None


def _write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: bytes) -> None:
    source = archive.extractfile(member)
    assert source is not None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as out:  # buffered: a raw file may write less than it is given
        while True:
            data = source.read(1 << 20)
            if not data:
                break
            out.write(data)


def _set_metadata(member: tarfile.TarInfo, path: bytes, rootless: bool) -> None:
    if not rootless:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode)
    for key, value in _xattrs(member).items():
        try:
            os.setxattr(path, key, value, follow_symlinks=False)
        except OSError:
            if not rootless:
                raise
    if not member.isdir():
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _xattrs(member: tarfile.TarInfo) -> Dict[str, bytes]:
    prefix = "SCHILY.xattr."
    return {
        key[len(prefix) :]: value.encode("utf-8", "surrogateescape")
        for key, value in member.pax_headers.items()
        if key.startswith(prefix) and not key[len(prefix) :].startswith(_OVERLAY_XATTRS)
    }
