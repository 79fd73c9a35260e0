"""The plain tars of layers that somebody else has compressed: gzip by Python, zstd by this machine's program."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zlib
from contextlib import contextmanager
from typing import BinaryIO, Iterator

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.files import CHUNK
from opam_sandbox.layer.compress import LARGEST_LAYER
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.read_tar import Readable, TarReader
from opam_sandbox.layer.tar_headers import BLOCK, END


def copy_decompressed(layer: Layer, out: BinaryIO, title: str) -> None:
    """Write the layer's tar to `out`, with an end if it has none, and go back to its start. Raises ToolError for a damaged blob,
    and for a tar that is not what the image's config says."""
    sha256, left = hashlib.sha256(), LARGEST_LAYER
    try:
        with open(layer.blob, "rb") as blob, _reader(layer, blob, title) as content:
            for data in iter(lambda: content.read(CHUNK), b""):
                left -= len(data)
                if left < 0:
                    raise ToolError(
                        f"{title} has more than {LARGEST_LAYER >> 30} GiB, the most that is taken of a layer"
                    )
                sha256.update(data)
                out.write(data)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and machine_errors.is_of_machine(error):
            raise
        raise ToolError(f"{title}: its blob {layer.digest} cannot be read: {error}") from None
    if f"sha256:{sha256.hexdigest()}" != layer.diff_id:
        raise ToolError(f"{title}: its tar is sha256:{sha256.hexdigest()}, but the image's config says {layer.diff_id}")
    _end(out, title)
    out.seek(0)


def _end(out: BinaryIO, title: str) -> None:
    """Add the end marker that some programs do not write (umoci 0.4.7's `insert`), and without which engines read a tar as well.
    Raises ToolError where the tar ends within a file, as they do."""
    length = out.seek(0, os.SEEK_END)
    out.seek(max(0, length - BLOCK))
    if length % BLOCK or (length and not out.read(BLOCK).strip(b"\0")):
        return  # there is one, or the tar is cut
    out.seek(length)
    out.write(END)
    out.seek(0)
    for member in TarReader(out, title):
        if member.offset + member.size > length:
            raise ToolError(f"{title}: its archive is damaged: it ends within a file")


@contextmanager
def _reader(layer: Layer, blob: BinaryIO, title: str) -> Iterator[Readable]:
    if layer.media_type.endswith("+gzip"):
        import gzip

        with gzip.GzipFile(fileobj=blob, mode="rb") as content:
            yield content
    elif layer.media_type.endswith("+zstd"):
        with _zstd(blob, title) as piped:
            yield piped
    else:
        yield blob


@contextmanager
def _zstd(blob: BinaryIO, title: str) -> Iterator[Readable]:
    program = shutil.which("zstd")
    if program is None:
        raise ToolError(f"{title} is compressed with zstd, which this machine lacks: `apt-get install zstd` (as root)")
    argv = [program, "-q", "-d", "-c", "--long=31"]
    with subprocess.Popen(argv, stdin=blob, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            text = process.stderr.read().decode(errors="replace").strip()
            status = process.wait()
    if status != 0:
        raise ToolError(f"{title}: its blob is no zstd: {text:.300}")
