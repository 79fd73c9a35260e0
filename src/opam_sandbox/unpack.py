"""Unpacks a layer's tar into a directory that overlayfs takes as a lower directory.

OCI whiteouts become overlayfs's: `.wh.NAME` a character device 0:0, `.wh..wh..opq` the xattr `overlay.opaque`.
Nothing is ever written outside the directory: every name is checked, and parents are never followed through links.
"""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path
from typing import IO, Dict, List, Protocol, Set, Tuple, cast

from opam_sandbox.errors import ToolError

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"

# What overlayfs keeps for itself: from an archive it would redirect or hide what lies below.
_OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")


def opaque_xattr(rootless: bool) -> str:
    return "user.overlay.opaque" if rootless else "trusted.overlay.opaque"


class Readable(Protocol):
    """What an archive is read from: a file, or something that reads through to one."""

    def read(self, size: int = -1) -> bytes: ...


def unpack(stream: Readable, target: Path, rootless: bool) -> int:
    """Unpack an uncompressed tar stream below `target` (an empty directory); returns the number of entries.

    rootless: owners and device nodes are left out, since a user may not make them. Raises ToolError for an archive that is
    damaged, unsafe or cannot be unpacked here; the directory is of no use then.
    """
    try:
        return _unpack(stream, os.fsencode(target), rootless)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        # ValueError: names with NUL; OverflowError: numbers that no system call takes.
        raise ToolError(f"a layer's archive is damaged: {error}") from None
    except OSError as error:
        raise ToolError(f"a layer's archive does not unpack: {error}") from None


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
    directories: List[Tuple[bytes, int]] = []
    made: Set[bytes] = {root}
    deleted: Set[bytes] = set()
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
        for member in archive:
            count += 1
            relative = _relative(member.name)
            path = os.path.join(root, relative) if relative else root
            parent, name = os.path.split(path)
            if relative:
                _make_parents(root, parent, made)
            if relative and name.startswith(WHITEOUT):
                if name == OPAQUE:
                    os.setxattr(parent, opaque_xattr(rootless), b"y")
                else:
                    _delete(parent, name[len(WHITEOUT) :], deleted, rootless)
                continue
            if member.isdir():
                if relative and not _is_directory(path):
                    _remove(path)
                    os.mkdir(path, 0o700)
                    if path in deleted:
                        os.setxattr(path, opaque_xattr(rootless), b"y")
                made.add(path)
                directories.append((path, member.mtime))
            elif member.isreg():
                _remove(path)
                _write_file(archive, member, path)
            elif member.islnk():
                source = os.path.join(root, _relative(member.linkname))
                _refuse_links(root, os.path.dirname(source))
                if source != path:
                    _remove(path)
                    os.link(source, path, follow_symlinks=False)
                elif not os.path.lexists(path):
                    raise ToolError(f"a layer holds a hard link to itself: {member.name!r}")
                continue  # one inode: everything below was set with its first name
            elif member.issym():
                _remove(path)
                os.symlink(os.fsencode(member.linkname), path)
            elif member.ischr() or member.isblk() or member.isfifo():
                if rootless and not member.isfifo():
                    continue
                _remove(path)
                kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK if member.isblk() else stat.S_IFIFO
                os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
            else:
                raise ToolError(f"a layer holds an entry of unknown kind {member.type!r}: {member.name!r}")
            _set_metadata(member, path, rootless)
    # Last, since making an entry changes its directory's time.
    for path, mtime in reversed(directories):
        os.utime(path, (mtime, mtime))
    return count


def _delete(parent: bytes, name: bytes, deleted: Set[bytes], rootless: bool) -> None:
    """A whiteout: it hides `name` of the layers below, not what this layer itself puts there, before or after."""
    if name in (b"", b".", b".."):
        raise ToolError(f"a layer holds a whiteout of no name: {os.fsdecode(WHITEOUT + name)!r}")
    path = os.path.join(parent, name)
    deleted.add(path)
    if _is_directory(path):
        os.setxattr(path, opaque_xattr(rootless), b"y")
    elif not os.path.lexists(path):
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))


def _relative(name: str) -> bytes:
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
            raise ToolError(f"a layer writes through {os.fsdecode(parent[len(root) :])!r}, which is no directory")
        os.mkdir(parent, 0o755)
    made.add(parent)


def _refuse_links(root: bytes, directory: bytes) -> None:
    while len(directory) > len(root):
        if not _is_directory(directory):
            raise ToolError(f"a layer links through {os.fsdecode(directory[len(root) :])!r}, which is no directory")
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
        mode = member.mode
        # A user could not read his own store otherwise; the layer's blob keeps the true mode.
        os.chmod(path, mode)
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
