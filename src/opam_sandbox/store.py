"""The store of unpacked layers: one directory per diff_id, filled once, kept between processes.

`store/root/<diff_id>/` (or `store/uid-N/` for a user, whose files all belong to him) is complete whenever it exists:
it is unpacked beside, its diff_id is checked, and then it is renamed into place under a file lock. What a crash leaves
in `tmp/` is swept by the next process that wants the same layer.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import zlib
from pathlib import Path
from typing import Callable

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import Layer
from opam_sandbox.unpack import Readable, unpack

# A change of how layers are unpacked must not meet directories that were unpacked the old way.
FORMAT = "v1"


class Store:
    """`directory`: the root of the store; it may be a symlink. rootless: the files of a user without privileges."""

    def __init__(self, directory: Path, rootless: bool) -> None:
        kind = f"uid-{os.getuid()}" if rootless else "root"
        self._rootless = rootless
        self._root = Path(os.path.realpath(directory)) / FORMAT / kind
        for name in ("layers", "tmp", "locks"):
            (self._root / name).mkdir(parents=True, exist_ok=True)

    def path(self, diff_id: str) -> Path:
        """Where the layer is, or would be."""
        return self._root / "layers" / _hex(diff_id)

    def is_beside(self, path: Path) -> bool:
        """Whether a rename leads from `path` into the store."""
        return os.stat(path).st_dev == os.stat(self._root).st_dev

    def get(self, layer: Layer) -> Path:
        """The layer's unpacked directory; unpacks its blob first if it is not there."""
        path = self.path(layer.diff_id)
        if path.is_dir():
            return path

        def fill(target: Path) -> None:
            try:
                with open(layer.blob, "rb") as blob:
                    packed = _HashingReader(blob)
                    with gzip.GzipFile(fileobj=packed, mode="rb") as plain:
                        reader = _HashingReader(plain)
                        unpack(reader, target, self._rootless)
                        reader.drain()
                    packed.drain()
            except (ToolError, OSError, EOFError, zlib.error) as error:
                raise ToolError(f"{layer.title}: its blob {layer.blob} does not unpack: {error}") from None
            if packed.hexdigest() != _hex(layer.digest):
                raise ToolError(
                    f"{layer.title}: the blob's sha256 is {packed.hexdigest()}, but should be {_hex(layer.digest)}"
                )
            if reader.hexdigest() != _hex(layer.diff_id):
                raise ToolError(
                    f"{layer.title}: unpacked, its sha256 is {reader.hexdigest()}, but should be {_hex(layer.diff_id)}"
                )

        return self.put(layer.diff_id, fill)

    def put(self, diff_id: str, fill: Callable[[Path], None]) -> Path:
        """Have `fill` make the layer's directory unless it is there; only a whole one is ever seen."""
        # filelock takes long to import, and most processes find all their layers.
        from filelock import FileLock

        path = self.path(diff_id)
        name = path.name
        with FileLock(self._root / "locks" / f"{name}.lock"):
            if path.is_dir():
                return path
            temporary = self._root / "tmp" / name
            remove_tree(temporary)
            temporary.mkdir(mode=0o755)
            try:
                fill(temporary)
                os.rename(temporary, path)
            except BaseException:
                remove_tree(temporary)
                raise
        return path


class _HashingReader(io.RawIOBase):
    """Reads through to `source` and hashes what goes by."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._sha256.update(data)
        return data

    def drain(self) -> None:
        while self.read(1 << 20):
            pass

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _hex(digest: str) -> str:
    return digest.split(":", 1)[-1]


def remove_tree(path: Path) -> None:
    """Remove a tree whatever its directories' modes (overlayfs leaves a work directory of mode 0)."""

    if not os.path.lexists(path):
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        _open_directories(os.fsencode(path))
        shutil.rmtree(path)


def _open_directories(path: bytes) -> None:
    # Directories only: a file's mode has no say in its removal, and other names of the file may be in use.
    os.chmod(path, stat.S_IRWXU)
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _open_directories(entry.path)
