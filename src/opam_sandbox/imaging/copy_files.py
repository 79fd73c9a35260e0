"""Copies the chosen files of a full image into a slim one."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Dict, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.layer import ownership
from opam_sandbox.sandbox import view_files


class Copies:
    """`full`, `slim`: the views' roots. rootless: owners are left to the rule that layers are captured by."""

    def __init__(self, full: Path, slim: Path, rootless: bool) -> None:
        self._full = full
        self._slim = slim
        self._rootless = rootless
        self._first: Dict[Tuple[str, int, Tuple[int, int]], Path] = {}

    def copy(self, path: str) -> None:
        """Copy a file or link, of which no directory above is a link in the full image, with the directories it needs.

        Raises ToolError where the slim base has a directory, or a link that leads nowhere, in the way.
        """
        source = self._full / path
        target = self.make_directory(os.path.dirname(path)) / os.path.basename(path)
        if os.path.lexists(target):
            os.unlink(target)
        if source.is_symlink():
            os.symlink(os.readlink(source), target)
        else:
            # opam installs a program of several names as often as it has names: here it is one file.
            status = source.stat()
            key = (file_sha256(source)[0], stat.S_IMODE(status.st_mode), ownership.owner(os.fsencode(path)))
            first = self._first.setdefault(key, target)
            if first != target:
                os.link(first, target)
                return
            shutil.copyfile(source, target)
            shutil.copystat(source, target)
        self._own(target, path)

    def make_directory(self, path: str) -> Path:
        """The directory of this name in the slim image, made as the full image has it where it is missing."""
        real = view_files.resolve(self._slim, path)
        if real is not None:
            return self._slim / real
        target = self.make_directory(os.path.dirname(path)) / os.path.basename(path)
        if os.path.lexists(target):
            raise ToolError(
                f"/{path} is a directory of the image, but the slim base has a link there that leads nowhere"
            )
        target.mkdir()
        target.chmod(stat.S_IMODE((self._full / path).lstat().st_mode))
        self._own(target, path)
        return target

    def _own(self, target: Path, path: str) -> None:
        if not self._rootless:
            os.chown(target, *ownership.owner(os.fsencode(path)), follow_symlinks=False)
