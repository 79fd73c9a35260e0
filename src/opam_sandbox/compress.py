"""gzip on all cores, with bytes that depend neither on the number of cores nor on the machine.

The stream is cut into pieces of fixed size, each compressed by the *base's own* `gzip` (a locked Debian package) into a
gzip member of its own; members one after another are one gzip file (RFC 1952, section 2.2). The machine's zlib, which
differs between distributions, has no say.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Deque

from opam_sandbox.errors import ToolError

PIECE = 4 << 20
# Against 6: 1.7 % more bytes in 3/5 of the time, measured on a compiler's layer.
LEVEL = 5
MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Written:
    """What came out: the sha256 (hex) of the plain stream and of the compressed one, and both sizes in bytes."""

    diff_id: str
    plain_size: int
    digest: str
    size: int


class GzipWriter:
    """A sink for the bytes of a tar stream: hashes, compresses and hashes again in one pass.

    `root`: a directory with the base's files, in which `gzip` runs. The caller must be allowed to chroot.
    """

    def __init__(self, out: BinaryIO, root: Path, workers: int = 0) -> None:
        self._out = out
        self._root = os.fspath(root)
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._plain_size = 0
        self._size = 0
        self._buffer = bytearray()
        self._workers = workers or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._workers)
        self._pending: Deque["Future[bytes]"] = deque()

    def write(self, data: bytes) -> None:
        self._plain.update(data)
        self._plain_size += len(data)
        self._buffer += data
        while len(self._buffer) >= PIECE:
            self._submit(bytes(self._buffer[:PIECE]))
            del self._buffer[:PIECE]

    def close(self) -> Written:
        if self._buffer or not self._plain_size:  # a gzip file has one member at least
            self._submit(bytes(self._buffer))
        while self._pending:
            self._drain()
        self._pool.shutdown()
        return Written(self._plain.hexdigest(), self._plain_size, self._packed.hexdigest(), self._size)

    def _submit(self, piece: bytes) -> None:
        # Bounded, so that memory stays at a few pieces whatever the layer's size.
        while len(self._pending) > 2 * self._workers:
            self._drain()
        self._pending.append(self._pool.submit(self._gzip, piece))

    def _drain(self) -> None:
        packed = self._pending.popleft().result()
        self._packed.update(packed)
        self._size += len(packed)
        self._out.write(packed)

    def _gzip(self, piece: bytes) -> bytes:
        root = self._root

        def enter() -> None:
            os.chroot(root)
            os.chdir("/")

        try:
            run = subprocess.run(
                ["/bin/gzip", "-n", "-c", f"-{LEVEL}"],
                input=piece,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                preexec_fn=enter,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ToolError(f"the base's gzip does not run: {error}") from None
        if run.returncode != 0 or not run.stdout:
            raise ToolError(
                f"the base's gzip failed (exit status {run.returncode}): {run.stderr.decode(errors='replace')}"
            )
        return run.stdout
