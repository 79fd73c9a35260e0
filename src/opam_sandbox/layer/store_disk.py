"""What a file system must be able to do to hold unpacked layers, found out before the first layer is put on it.

Some refuse what they cannot keep, others take it and forget it: on a disk of Windows every file may be a program, and `a` be `A`.
Layers on such a disk would be wrong without any error. So a few entries are made and looked at; that takes about a
millisecond, once for each disk and store.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree

_NOTE = "file-system"

# As what file systems say that they do not have something.
_LACKING = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.ENAMETOOLONG, errno.EMLINK)

# What of an archive has another time may be older than anybody's clock.
_TIME = 315532800


def check(root: Path, rootless: bool) -> None:
    """Raise ToolError unless the file system of the store `root` keeps what layers have. Raises OSError, as for a full disk."""
    device = f"{os.stat(root).st_dev}"
    try:
        if (root / _NOTE).read_text() == device:
            return
    except (OSError, ValueError):
        pass
    directory = root / "tmp" / f"{_NOTE}.{os.urandom(8).hex()}"
    try:
        directory.mkdir(mode=0o700)
        lacking = _lacking(directory, rootless)
    finally:
        remove_tree(directory)
    if lacking:
        raise ToolError(f"{_cannot(root)}: it does not keep {', '.join(lacking)}. {_ELSEWHERE}")
    (root / _NOTE).write_text(device)


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Say where it was when the file system of `directory` refuses a part of a layer. Raises ToolError then."""
    try:
        yield
    except (OSError, ToolError) as error:
        refused = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(refused, OSError) or refused.errno not in _LACKING:
            raise
        raise ToolError(f"{error}. Perhaps {_cannot(directory)}. {_ELSEWHERE}") from error


def no_locks(path: Path, error: OSError) -> str:
    """The message for a lock file that the file system cannot lock."""
    return f"{path} cannot be locked ({error.strerror}): {_cannot(path.parent)}. {_ELSEWHERE}"


_ELSEWHERE = (
    "Set Pants' [GLOBAL].named_caches_dir to a directory of a local Linux file system, such as ext4, xfs or btrfs."
)


def _cannot(path: Path) -> str:
    return f"{machine_errors.place(os.fspath(path))} cannot hold unpacked layers"


def _lacking(top: Path, rootless: bool) -> List[str]:
    lacking = []
    for name, test in (
        ("the modes of files", _keeps_modes),
        ("the times of files", _keeps_times),
        ("the owners of files", lambda path: rootless or _keeps_owners(path)),
        ("hard links", _keeps_hard_links),
        ("symbolic links", _keeps_symbolic_links),
        ("the case of names", _keeps_case),
        ("names of any bytes", _keeps_names),
    ):
        directory = top / str(len(os.listdir(top)))
        directory.mkdir()
        try:
            kept = test(directory)
        except OSError as error:
            if error.errno not in _LACKING + (errno.EILSEQ, errno.EACCES, errno.ENOENT, errno.EEXIST):
                raise
            kept = False
        if not kept:
            lacking.append(name)
    return lacking


def _keeps_modes(top: Path) -> bool:
    (top / "f").write_bytes(b"")
    for mode in (0o4751, 0o640, 0o0):
        os.chmod(top / "f", mode)
        if stat.S_IMODE(os.lstat(top / "f").st_mode) != mode:
            return False
    return True


def _keeps_times(top: Path) -> bool:
    (top / "f").write_bytes(b"")
    os.utime(top / "f", (_TIME + 1, _TIME + 1))
    return os.lstat(top / "f").st_mtime_ns // 10**9 == _TIME + 1


def _keeps_owners(top: Path) -> bool:
    (top / "f").write_bytes(b"")
    os.chown(top / "f", 1000, 1001)
    found = os.lstat(top / "f")
    return (found.st_uid, found.st_gid) == (1000, 1001)


def _keeps_hard_links(top: Path) -> bool:
    (top / "f").write_bytes(b"")
    os.link(top / "f", top / "g")
    return os.path.samestat(os.lstat(top / "f"), os.lstat(top / "g")) and os.lstat(top / "f").st_nlink == 2


def _keeps_symbolic_links(top: Path) -> bool:
    os.symlink("some/where", top / "l")
    return os.readlink(top / "l") == "some/where"


def _keeps_case(top: Path) -> bool:
    for name in ("Name", "name"):
        os.close(os.open(top / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return sorted(os.listdir(top)) == ["Name", "name"]


def _keeps_names(top: Path) -> bool:
    names = sorted(
        [b"a:b", b"back\\slash", b"star*?", b"dot.", b"\xff\xfe", "\u00e9".encode(), "e\u0301".encode(), b"n" * 255]
    )
    for name in names:
        os.close(os.open(os.path.join(os.fsencode(top), name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return sorted(os.listdir(os.fsencode(top))) == names
