"""Blobs of layers: gzip, zstd or plain, on all cores, with bytes that depend neither on their number nor on the machine.

The stream is cut into pieces of fixed size, each compressed by the *base's own* `libdeflate-gzip`, `gzip` or `zstd` (of
locked Debian packages) into a gzip member or zstd frame of its own; these one after another are one file (RFC 1952, section
2.2; RFC 8878, section 3.1). The machine's zlib, which differs between distributions, has no say. Media types: OCI image-spec
1.1, layer.md.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Deque, List, NamedTuple, Optional, Union

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.holes import ZEROS
from opam_sandbox.layer.pack_piece import Packer
from opam_sandbox.sandbox import view_files

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

PIECE = 4 << 20
# Bytes of a layer's tar, for those who write layers and those who read them: 64 GiB. No blob says how much is in it, and one of
# 64 MB can have as much; a package can as well, with a file of one byte and a hole.
LARGEST_LAYER = 64 << 30
# Against 6, measured on a compiler's layer: gzip makes 1.7 % more bytes in 3/5 of the time, libdeflate 0.8 % in 4/5.
LEVEL = 5
# The media types of manifests, which building a layer does not need, are in oci/spec.py.
_TAR = "application/vnd.oci.image.layer.v1.tar"
# The first that a base has. libdeflate takes less than a third of gzip's time, for 3 % fewer bytes; gzip is in every base.
_PROGRAMS = {"gzip": ("usr/bin/libdeflate-gzip", "bin/gzip"), "zstd": ("usr/bin/zstd",)}


class Packing(NamedTuple):
    """compression: "gzip", "zstd" or "none"; `level` as its program has it."""

    compression: str
    level: int

    @property
    def media_type(self) -> str:
        """The layer's media type in a manifest."""
        return _TAR if self.compression == "none" else f"{_TAR}+{self.compression}"

    def program(self, root: Path) -> str:
        """The path of the program of the base below `root`, "" if none is needed. Raises ToolError if the base has none."""
        programs = _PROGRAMS.get(self.compression, ())
        for program in programs:
            if view_files.exists(root, program):
                return program
        if not programs:
            return ""
        name = Path(programs[-1]).name
        raise ToolError(
            f"the base lacks /{programs[-1]}, which compresses its images' layers: add the Debian package {name} to its "
            f"`packages`" + ("" if name == "gzip" else ', or set `compression="gzip"` in the image')
        )

    def argv(self, program: str, size: int) -> List[str]:
        """For a piece of `size` bytes, from standard input to standard output."""
        argv = [f"/{program}", "-c", f"-{self.level}"]
        if self.compression == "gzip":
            return [*argv, "-n"]
        # The size goes into the frame's header, so that readers know how much memory they need.
        return [*argv, "-q", "--single-thread", f"--stream-size={size}"]


GZIP = Packing("gzip", LEVEL)


class Written(NamedTuple):
    """What came out: the sha256 (hex) of the plain stream and of the compressed one, and both sizes in bytes."""

    diff_id: str
    plain_size: int
    digest: str
    size: int


class PackedWriter:
    """A sink for the bytes of a tar stream: hashes, compresses and hashes again in one pass.

    `root`: a directory with the base's files, in which the program runs. The caller must be allowed to mount.
    """

    def __init__(self, out: BinaryIO, root: Path, packing: Packing = GZIP, workers: int = 0) -> None:
        self._program = packing.program(root)
        self._out = out
        self._packing = packing
        self._packer = Packer(os.fspath(root), self._program, packing.compression)
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._plain_size = 0
        self._size = 0
        # Each holds some open files, and there is one who reads for all of them.
        self._workers = workers or min(len(os.sched_getaffinity(0)), 64)
        self._pool: Optional[ThreadPoolExecutor] = None  # until there is more than one piece
        self._pending: Deque["Future[bytes]"] = deque()
        # What there is of the piece that is not whole yet.
        self._parts: List[Union[bytes, memoryview]] = []
        self._filled = 0
        self._has_content = False
        # Whole pieces of zeros, of which holes of files are made, are all packed once.
        self._packed_zeros: Optional[Future[bytes]] = None

    def write(self, data: bytes) -> None:
        """Take the next bytes of the stream. Raises ToolError where the program fails."""
        self._plain.update(data)
        self._plain_size += len(data)
        if self._plain_size > LARGEST_LAYER:
            raise ToolError(f"a layer would have more than {LARGEST_LAYER >> 30} GiB, the most that is taken")
        self._has_content = self._has_content or not _are_zeros(data)
        if self._filled + len(data) < PIECE:
            self._parts.append(data)
            self._filled += len(data)
            return
        rest = memoryview(data)
        while rest:
            taken = rest[: PIECE - self._filled]
            self._parts.append(taken)
            self._filled += len(taken)
            rest = rest[len(taken) :]
            if self._filled == PIECE:
                self._submit()
                self._has_content = bool(rest) and not _are_zeros(data)

    def close(self) -> Written:
        """Compress what is left, and say what was written. Raises ToolError where the program fails."""
        if self._filled or not self._plain_size:  # a gzip file has one member at least
            if self._pool:
                self._submit()
            else:
                self._put(self._pack(b"".join(self._parts)))
        while self._pending:
            self._drain()
        if self._pool:
            self._pool.shutdown()
            self._packer.stop()
        return Written(self._plain.hexdigest(), self._plain_size, self._packed.hexdigest(), self._size)

    def _submit(self) -> None:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # which takes as long as to pack a small layer

            self._pool = ThreadPoolExecutor(self._workers)
            self._packer.start(self._workers)
        # Bounded, so that memory stays at a few pieces whatever the layer's size.
        while len(self._pending) > 2 * self._workers:
            self._drain()
        if self._has_content or self._filled < PIECE:
            self._pending.append(self._pool.submit(self._pack, b"".join(self._parts)))
        else:
            if self._packed_zeros is None:
                self._packed_zeros = self._pool.submit(self._pack, bytes(PIECE))
            self._pending.append(self._packed_zeros)
        self._parts, self._filled = [], 0

    def _drain(self) -> None:
        self._put(self._pending.popleft().result())

    def _put(self, packed: bytes) -> None:
        self._packed.update(packed)
        self._size += len(packed)
        self._out.write(packed)

    def _pack(self, piece: bytes) -> bytes:
        return self._packer.pack(self._packing.argv(self._program, len(piece)), piece) if self._program else piece


def _are_zeros(data: bytes) -> bool:
    return data is ZEROS or (len(data) == len(ZEROS) and data == ZEROS)
