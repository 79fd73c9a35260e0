"""Writes a layer as zstd:chunked:

    frames          of the tar: one for the headers up to a file's content, one for each chunk of the content
    skipped frame   the table of contents, itself zstd
    skipped frame   tar-split's lines, itself zstd
    skipped frame   where both are (the footer)

The layer's descriptor in a manifest says where they are as well: clients trust the table by its digest there.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from pathlib import Path
from typing import BinaryIO, Callable, ContextManager, Dict, Iterator, List, Mapping, NamedTuple, Tuple

from opam_sandbox import machine_errors
from opam_sandbox.files import file_sha256, write_json
from opam_sandbox.imaging.chunked import crc64
from opam_sandbox.imaging.chunked.contents import Chunk, Content, Contents, NotListed, TarSplit, cut
from opam_sandbox.imaging.chunked.frames import LARGEST_PIECE, FramePacker, Frames
from opam_sandbox.layer.compress import Packing, Written
from opam_sandbox.layer.description import FILE
from opam_sandbox.layer.holes import ZEROS
from opam_sandbox.layer.make import BLOBS, write_blob
from opam_sandbox.layer.read_tar import Member, Readable, TarReader
from opam_sandbox.layer.tar_headers import BLOCK
from opam_sandbox.strict_json import read_object

# A larger file has several chunks, each of which a client may have already. Smaller ones cost more bytes than they save.
CHUNK = 1 << 20
# RFC 8878, section 3.1.2: a magic number, and the size of what follows.
_SKIP = struct.Struct("<4sI")
_SKIPPED = b"\x50\x2a\x4d\x18"
# The table's offset, sizes (packed, plain) and kind, tar-split's offset and sizes, a magic number.
_FOOTER = struct.Struct("<7Q8s")
_MAGIC = b"GNUlInUx"
# Headers of an entry: three of the largest, and more.
_MOST_AROUND = 32 << 20
# The only kind of table that there is.
_KIND = 1
_PREFIX = "io.github.containers.zstd-chunked."

Open = Callable[[], "ContextManager[Readable]"]


class Packed(NamedTuple):
    """A blob in BLOBS. `annotations` are those of its descriptor: none of a layer that no table can list."""

    written: Written
    annotations: Dict[str, str]


def write_chunked_blob(root: Path, content: Open, packing: Packing, title: str, workers: int = 0) -> Packed:
    """Write the tar that `content` opens, possibly twice, as a blob named by its digest.

    `root`: the base, whose zstd compresses; `title` names the layer in messages. Raises ToolError.
    """
    BLOBS.mkdir(parents=True, exist_ok=True)
    temporary = BLOBS / "partial"
    try:
        with machine_errors.at(temporary, "the layer", machine_errors.SANDBOXES), open(temporary, "wb") as out:
            packer = FramePacker(root, packing, workers)
            try:
                with content() as tar:
                    writer = _Writer(out, packer, tar, title)
                    annotations = writer.write()
            finally:
                packer.stop()
    except NotListed:
        return Packed(write_blob(root, lambda sink: _copy(content, sink.write), packing)[0], {})
    digest, size = file_sha256(temporary)
    os.replace(temporary, BLOBS / digest)
    return Packed(Written(writer.frames.plain.hexdigest(), writer.frames.plain_size, digest, size), annotations)


def annotate(annotations: Mapping[str, str]) -> None:
    """Enter a descriptor's annotations into this directory's layer.json, which has no such field where there are none."""
    if annotations:
        write_json(FILE, {**read_object(Path(FILE)), "annotations": annotations})


def _copy(content: Open, write: Callable[[bytes], object]) -> None:
    with content() as tar:
        for data in iter(lambda: tar.read(1 << 20), b""):
            write(data)


class _Recorder:
    """Reads through to a tar and keeps what goes by, until it is taken."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._kept = bytearray()

    def read(self, size: int = -1) -> bytes:
        """Raises NotListed where headers, or zeros at the end, are more than any layer of this project's has."""
        data = self._source.read(size)
        self._kept += data
        if len(self._kept) > _MOST_AROUND:
            raise NotListed("very large headers")
        return data

    def take(self) -> bytes:
        """What has gone by since the last time."""
        kept = bytes(self._kept)
        self._kept.clear()
        return kept


class _Text:
    """Compresses a text that comes in small parts, and which may be large."""

    def __init__(self, packer: FramePacker) -> None:
        self._out = io.BytesIO()
        self._frames = Frames(self._out, packer)
        self._parts: List[bytes] = []
        self._filled = 0

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        self._filled += len(part)
        if self._filled >= LARGEST_PIECE:
            self._flush()

    def close(self) -> Tuple[bytes, int]:
        """The frames, and the size of the text in bytes."""
        self._flush()
        self._frames.close()
        return self._out.getvalue(), self._frames.plain_size

    def _flush(self) -> None:
        for piece in cut(self._parts, LARGEST_PIECE):
            self._frames.add(piece)
        self._parts, self._filled = [], 0


class _Writer:
    """Writes one tar to `out`. After `write`, `frames` has its digest."""

    def __init__(self, out: BinaryIO, packer: FramePacker, tar: Readable, title: str) -> None:
        self._out = out
        self._packer = packer
        self._recorder = _Recorder(tar)
        self._reader = TarReader(self._recorder, title)
        self.frames = Frames(out, packer)
        self._contents = Contents()
        self._split = TarSplit()
        self._lines = _Text(packer)
        # Headers and padding that are in no frame yet.
        self._around: List[bytes] = []

    def write(self) -> Dict[str, str]:
        """Returns the annotations. Raises ToolError, and NotListed for what no table can list."""
        padding = 0
        for member in self._reader:
            around = self._recorder.take()
            self._contents.check(member, around[padding:])
            self._between(around)
            content = self._content(member) if member.size else None
            self._contents.add(member, content)
            self._lines.add(self._split.file(member, content))
            padding = -member.size % BLOCK
        self._between(self._recorder.take())
        self._flush()
        self.frames.close()
        return self._end()

    def _between(self, data: bytes) -> None:
        self._lines.add(self._split.segment(data))
        self._around.append(data)
        if sum(map(len, self._around)) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        for piece in cut(self._around, LARGEST_PIECE):
            self.frames.add(piece)
        self._around = []

    def _pieces(self) -> Iterator[bytes]:
        for data in self._reader.content():
            self._recorder.take()  # is the content
            yield data

    def _content(self, member: Member) -> Content:
        """Write a file's content: a frame for each CHUNK, and chunks of them; zeros are one chunk however many they are."""
        self._flush()
        first = self.frames.count
        whole, crc, at = hashlib.sha256(), 0, 0
        chunks: List[Chunk] = []
        sha256 = whole.copy()
        for piece in cut(self._pieces(), CHUNK):
            whole.update(piece)
            crc = crc64.update(crc, piece)
            frame = self.frames.add(piece)
            if member.size > CHUNK:
                zeros = piece == ZEROS[: len(piece)]
                if not chunks or not (zeros and chunks[-1].zeros):
                    chunks.append(Chunk(at, 0, frame, "", zeros))
                    sha256 = hashlib.sha256()
                sha256.update(piece)
                chunks[-1] = chunks[-1]._replace(size=chunks[-1].size + len(piece), sha256=sha256.hexdigest())
            at += len(piece)
        return Content(whole.hexdigest(), crc, first, self.frames.count, chunks)

    def _end(self) -> Dict[str, str]:
        """Write what decoders skip."""
        lines, lines_size = self._lines.close()
        lines_digest = _digest(lines)
        text = self._contents.table(self.frames.starts, lines_digest)
        packed_text = _Text(self._packer)
        packed_text.add(text)
        table, table_size = packed_text.close()
        where = self.frames.starts[-1] + _SKIP.size
        behind = where + len(table) + _SKIP.size
        footer = _FOOTER.pack(where, len(table), table_size, _KIND, behind, len(lines), lines_size, _MAGIC)
        for data in (table, lines, footer):
            self._out.write(_SKIP.pack(_SKIPPED, len(data)))
            self._out.write(data)
        return {
            f"{_PREFIX}manifest-checksum": _digest(table),
            f"{_PREFIX}manifest-position": f"{where}:{len(table)}:{table_size}:{_KIND}",
            # The table has it: this is for containers/storage 1.50 to 1.54, which look for it here.
            f"{_PREFIX}tarsplit-checksum": lines_digest,
            f"{_PREFIX}tarsplit-position": f"{behind}:{len(lines)}:{lines_size}",
        }


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
