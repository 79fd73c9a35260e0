"""Files that programs expect on every machine and that no layer has: commands see them, and nothing of them is captured.

They lie in a directory that is mounted over the layers as if it were one more of them. So nothing is made for them in the
view, no mount is needed, and a maintainer script may change its copy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Mapping, Sequence

from opam_sandbox.files import remove_tree

# The one directory that has such files, and their names in it.
PLACE = "etc"
HOSTS, PRELOAD, RESOLVER = "hosts", "ld.so.preload", "resolv.conf"

# As container engines have it. The sandbox itself is called `localhost`, too (see `namespaces`).
NAMES = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class Surroundings:
    """A directory with files for the /etc of a view. `path`: where it is made; it is removed with what it lies in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_made = False

    @property
    def directories(self) -> List[bytes]:
        """It alone, if it is made."""
        return [os.fsencode(self._path)] if self._is_made else []

    def make(self, below: Sequence[bytes], files: Mapping[str, bytes]) -> None:
        """Make it anew; not where the view has no /etc. Raises OSError.

        below: the directories that the view's own /etc is merged of, topmost first. This one looks like it: a command that
        writes there gets a copy.
        """
        if self._is_made:
            remove_tree(self._path)
        self._is_made = bool(below)
        if not below:
            return
        like = os.lstat(below[0])
        directory = self._path / PLACE
        directory.mkdir(parents=True)
        for name, content in files.items():
            (directory / name).write_bytes(content)
            os.chmod(directory / name, 0o644)
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(directory, like.st_uid, like.st_gid)
        os.chmod(directory, like.st_mode & 0o7777)
        os.utime(directory, ns=(like.st_atime_ns, like.st_mtime_ns))
