"""Reads the blobs of layers, and checks them on the way."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Callable, Iterator, Protocol

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.files import CHUNK, file_sha256
from opam_sandbox.layer.compress import GZIP, LARGEST_LAYER

if TYPE_CHECKING:
    from opam_sandbox.layer.read_tar import Readable


class LayerBlob(Protocol):
    """A compressed layer as a file: of a layer directory, or of an image's layout. Digests are `sha256:<hex>`."""

    @property
    def title(self) -> str:
        """Names the layer in messages."""
        ...

    @property
    def blob(self) -> Path:
        """The file."""
        ...

    @property
    def media_type(self) -> str:
        """As a manifest has it."""
        ...

    @property
    def digest(self) -> str:
        """Of the file."""
        ...

    @property
    def diff_id(self) -> str:
        """Of the tar in it."""
        ...


@contextmanager
def plain_content(layer: LayerBlob) -> Iterator[Readable]:
    """The layer's uncompressed tar. Raises ToolError, at the context's end at the latest, unless blob and content have the
    digests that the layer's description says. What is not read by then is read there."""
    if layer.media_type != GZIP.media_type:
        raise ToolError(f"{layer.title}: its blob is {layer.media_type}, but only gzip is read")
    import gzip  # what is unpacked already needs none

    try:
        with _open_blob(layer.blob) as blob:
            packed = _HashingReader(blob, layer.title)
            with gzip.GzipFile(fileobj=packed, mode="rb") as content:
                plain = _HashingReader(content, layer.title)
                yield plain
                plain.drain()
            packed.drain()
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and machine_errors.is_of_machine(error):
            raise  # of who writes what is read here
        raise ToolError(f"{layer.title}: its blob {layer.blob} cannot be read: {error}") from None
    for name, found, wanted in (
        ("blob", packed.hexdigest(), layer.digest),
        ("content", plain.hexdigest(), layer.diff_id),
    ):
        if f"sha256:{found}" != wanted:
            raise ToolError(f"{layer.title} is damaged: the sha256 of its {name} is {found}, but should be {wanted}")


def copy_plain(layer: LayerBlob, write: Callable[[bytes], object]) -> None:
    """Send the layer's uncompressed tar to `write`. Raises ToolError as `plain_content` does."""
    with plain_content(layer) as content:
        for data in iter(lambda: content.read(CHUNK), b""):
            write(data)


def check_blob(path: Path, digest: str, size: int, what: str) -> None:
    """Raise ToolError unless a blob has this digest (`sha256:<hex>`) and size in bytes. `what` names it in the message."""
    try:
        _open_blob(path).close()
        found, found_size = file_sha256(path)
    except OSError as error:
        raise ToolError(f"{what} cannot be read: {error}") from None
    if f"sha256:{found}" != digest or found_size != size:
        raise ToolError(
            f"{what} is damaged: it has {found_size} bytes with sha256:{found}, but should have {size} with {digest}"
        )


def _open_blob(path: Path) -> BinaryIO:
    """A regular file. Raises OSError for anything else: a FIFO would wait for somebody who writes."""
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is no regular file")


class _HashingReader(io.RawIOBase):
    """Reads through to `source` and hashes what goes by. Raises ToolError for more than a layer may have."""

    def __init__(self, source: Readable, title: str) -> None:
        self._source = source
        self._title = title
        self._sha256 = hashlib.sha256()
        self._left = LARGEST_LAYER

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._sha256.update(data)
        self._left -= len(data)
        if self._left < 0:
            raise ToolError(f"{self._title} has more than {LARGEST_LAYER >> 30} GiB, the most that is taken of a layer")
        return data

    def drain(self) -> None:
        while self.read(CHUNK):
            pass

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()
