"""Copies the chosen files of a full image into a slim one."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import CHUNK
from opam_sandbox.layer import ownership
from opam_sandbox.layer.owners import Owner
from opam_sandbox.sandbox import view_files

# Of an attribute that cannot be set here, such as another user's capabilities without privileges.
_NOT_HERE = (errno.EPERM, errno.ENOTSUP, errno.ENODATA, errno.EINVAL)


def _by_rule(path: str) -> Owner:
    return ownership.owner(os.fsencode(path))


class Copies:
    """`full`, `slim`: the views' roots. `owner_of`: whose a file is in the slim one; rootless: on disk it is this user's.

    given: the owners of all that was made, as `make.Facts` has it.
    """

    def __init__(self, full: Path, slim: Path, rootless: bool, owner_of: Callable[[str], Owner] = _by_rule) -> None:
        self.given: Dict[bytes, Owner] = {}
        self._owner_of = owner_of
        self._full = full
        self._slim = slim
        self._rootless = rootless
        self._first: Dict[Tuple[str, int, Owner], str] = {}

    def copy(self, path: str) -> None:
        """Copy a file or link, of which no directory above is a link in the full image, with the directories it needs.

        Raises ToolError where the slim base has a directory, or a link that leads nowhere, in the way.
        """
        target = os.path.join(self.make_directory(os.path.dirname(path)), os.path.basename(path))
        if view_files.is_link(self._full, path):
            view_files.make_link(self._slim, target, view_files.read_link(self._full, path), self._owner(path, target))
            return
        source = view_files.open_file(self._full, path, links=False)
        if source is None:
            raise ToolError(f"/{path} is no file of the full image")
        with source:
            # opam installs a program of several names as often as it has names: here it is one file.
            mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode)
            key = (_sha256(source), mode, self._owner_of(path))
            owner = self._owner(path, target)
            first = self._first.setdefault(key, target)
            if first != target:
                view_files.make_hard_link(self._slim, first, target)
                return
            with open(view_files.make_file(self._slim, target), "wb") as out:
                source.seek(0)
                for data in iter(lambda: source.read(CHUNK), b""):
                    out.write(data)
                out.flush()
                self._copy_metadata(source.fileno(), out.fileno(), owner)

    def make_directory(self, path: str) -> str:
        """The name without links that this directory has in the slim image; made as in the full one where it is missing."""
        missing: List[str] = []
        while True:
            real = view_files.resolve(self._slim, path)
            if real is not None:
                break
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            real = os.path.join(real, os.path.basename(path))
            if view_files.status(self._slim, real) is not None:
                raise ToolError(
                    f"/{path} is a directory of the image, but the slim base has a link there that leads nowhere"
                )
            found = view_files.status(self._full, path)
            mode = stat.S_IMODE(found.st_mode) if found is not None else 0o755
            view_files.make_directory(self._slim, real, mode, self._owner(path, real))
        return real

    def _owner(self, path: str, target: str) -> view_files.Owner:
        """For what becomes `target` in the slim image."""
        owner = self.given[os.fsencode(target)] = self._owner_of(path)
        return None if self._rootless else owner

    def _copy_metadata(self, source: int, target: int, owner: view_files.Owner) -> None:
        if owner is not None:
            os.fchown(target, *owner)  # first, since it takes set-uid and capabilities away
        found = os.fstat(source)
        for name in os.listxattr(source):
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
        os.fchmod(target, stat.S_IMODE(found.st_mode))
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    for data in iter(lambda: file.read(CHUNK), b""):
        digest.update(data)
    return digest.hexdigest()
