"""The tars in blobs of layers, as registries and other people's tools have them."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Iterator

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.files import CHUNK
from opam_sandbox.layer.compress import GZIP, LARGEST_LAYER, Packing
from opam_sandbox.layer.read_blob import plain_content
from opam_sandbox.layer.read_tar import Readable
from opam_sandbox.oci import layout_files

_TAR, _ZSTD = Packing("none", 0).media_type, Packing("zstd", 0).media_type
_COMPRESSIONS = {
    GZIP.media_type: GZIP.media_type,
    _TAR: _TAR,
    _ZSTD: _ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": GZIP.media_type,
    "application/vnd.docker.image.rootfs.diff.tar": _TAR,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": _ZSTD,
}


@dataclass(frozen=True)
class LayerFile:
    """A layer of an image in a layout. title: names it in messages. Digests are `sha256:<hex>`."""

    title: str
    layout: Path
    media_type: str
    digest: str
    diff_id: str

    @property
    def blob(self) -> Path:
        """The file."""
        return self.layout / layout_files.blob_name(self.digest, self.title)


@contextmanager
def content_of(layer: LayerFile) -> Iterator[Readable]:
    """The layer's tar. Raises ToolError, at the context's end at the latest, unless the tar is what the image's configuration
    says, and for a compression that is not read here."""
    compression = _COMPRESSIONS.get(layer.media_type)
    if compression == GZIP.media_type:
        with plain_content(_AsGzip(layer)) as content:
            yield _Named(content, layer)
        return
    if compression is None:
        raise ToolError(f"{layer.title}: its blob is {layer.media_type!r:.80}, which is not read")
    with _opened(layer) as blob:
        source = _unzstd(layer, blob) if compression == _ZSTD else _plain(blob)
        with source as content:
            reader = _Hashing(content, layer.title)
            yield reader
            reader.drain()
    if reader.diff_id != layer.diff_id:
        raise ToolError(f"{layer.title} is damaged: its content is {reader.diff_id}, but should be {layer.diff_id}")


class _Named:
    """Reads through. Two layers are read side by side, and errors are to be those of the one that is damaged."""

    def __init__(self, source: Readable, layer: LayerFile) -> None:
        self._source, self._layer = source, layer

    def read(self, size: int = -1) -> bytes:
        """As the source does. Raises ToolError for what is no gzip."""
        try:
            return self._source.read(size)
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and machine_errors.is_of_machine(error):
                raise
            raise ToolError(f"{self._layer.title}: its blob {self._layer.blob} cannot be read: {error}") from None


class _AsGzip:
    """The same, under the one name for gzip."""

    def __init__(self, layer: LayerFile) -> None:
        self.title, self.blob, self.media_type = layer.title, layer.blob, GZIP.media_type
        self.digest, self.diff_id = layer.digest, layer.diff_id


@contextmanager
def _opened(layer: LayerFile) -> Iterator[IO[bytes]]:
    with layout_files.opened(layer.layout, layout_files.blob_name(layer.digest, layer.title)) as descriptor:
        with open(descriptor, "rb", closefd=False) as file:
            yield file


@contextmanager
def _plain(blob: IO[bytes]) -> Iterator[IO[bytes]]:
    yield blob


@contextmanager
def _unzstd(layer: LayerFile, blob: IO[bytes]) -> Iterator[IO[bytes]]:
    program = shutil.which("zstd")
    if program is None:
        raise ToolError(
            f"{layer.title}: its blob is compressed by zstd, and this machine has no `zstd` to read it: install it"
        )
    process = subprocess.Popen(
        [program, "-dcq"], stdin=blob, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PATH": os.defpath}
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.stdout.close()
        code = process.wait()
    if code:
        raise ToolError(f"{layer.title}: `zstd` cannot read its blob {layer.digest}")


class _Hashing(io.RawIOBase):
    """Reads through and hashes. Raises ToolError for more than a layer may have."""

    def __init__(self, source: IO[bytes], title: str) -> None:
        self._source, self._title, self._size = source, title, 0
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._sha256.update(data)
        self._size += len(data)
        if self._size > LARGEST_LAYER:
            raise ToolError(f"{self._title} has more than {LARGEST_LAYER >> 30} GiB, the most that is taken of a layer")
        return data

    def drain(self) -> None:
        """Read what is left."""
        while self.read(CHUNK):
            pass

    @property
    def diff_id(self) -> str:
        """Of what was read."""
        return f"sha256:{self._sha256.hexdigest()}"
