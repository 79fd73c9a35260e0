"""Zstd frames, one for each piece of a layer, made by the base's own `zstd`.

A layer has tens of thousands of pieces, most of them of a few kB: to start a program for each takes longer than all else. So the
program is given many at once, as files, of which it makes a frame each, one after another (RFC 8878, section 3.1). A frame
depends on its piece alone, whichever others are given with it.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Deque, List, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.imaging.chunked.read_frames import read_frames
from opam_sandbox.layer.compress import Packing
from opam_sandbox.layer.pack_piece import Packer, _in_memory
from opam_sandbox.sandbox import memory, privileges, seccomp, syscalls, view_files

# What the program is given at once: bytes, and pieces.
_BATCH, _MOST = 4 << 20, 512
LARGEST_PIECE = 4 << 20
# Room for a batch, whose files take whole pages.
_ROOM = 32 << 20
# Directories of every Debian base (base-files); the program needs nothing of what is in them.
_PLACES = ("mnt", "tmp", "srv", "opt", "media")


class FramePacker(Packer):
    """`root`: a directory with the base's files. The caller must be allowed to mount. Raises ToolError where the base lacks
    zstd."""

    def __init__(self, root: Path, packing: Packing, workers: int = 0) -> None:
        program = packing.program(root)
        super().__init__(os.fspath(root), program, packing.compression)
        self._level = packing.level
        place = next((name for name in _PLACES if view_files.is_directory(root, name)), "")
        if not place:
            raise ToolError(f"the base has none of the directories {', '.join(_PLACES)}: it is no Debian root")
        self._place = place
        # As many as `PackedWriter` has.
        self.workers = workers or min(len(os.sched_getaffinity(0)), 64)
        self._outer = ThreadPoolExecutor(self.workers)
        self.start(self.workers)

    def stop(self) -> None:
        """End the threads."""
        self._outer.shutdown()
        super().stop()

    def submit(self, pieces: Sequence[bytes]) -> "Future[List[bytes]]":
        """Have `frames` called by another thread."""
        return self._outer.submit(self.frames, pieces)

    def frames(self, pieces: Sequence[bytes]) -> List[bytes]:
        """A frame for each piece, of which none is empty. Raises ToolError where the program fails, or makes something else."""
        nothing, packed, errors = (_in_memory(name) for name in ("nothing", "packed", "errors"))
        with nothing, packed, errors:
            files = [file.fileno() for file in (nothing, packed, errors)]
            try:
                status = self._threads.submit(self._compress, pieces, files).result()
                for file in (packed, errors):
                    file.seek(0)
                result, said = packed.readall(), errors.readall()
            except OSError as error:
                raise ToolError(f"the base's zstd does not run: {error}") from None
        if status != 0:
            raise ToolError(f"the base's zstd failed (exit status {status}): {said.decode(errors='replace')}")
        found = read_frames(result)
        sizes = [len(piece) for piece in pieces]
        if [frame.content for frame in found] != sizes or not self._holds(result, b"".join(pieces)):
            raise ToolError(
                f"the base's /{self._program} makes something else of a layer's content than that content: the base's "
                "packages are faulty, or malicious. Lock the base anew, or with other packages"
            )
        return [result[frame.start : frame.end] for frame in found]

    def _compress(self, pieces: Sequence[bytes], files: List[int]) -> int:
        """In a thread that has the base's root as its own; see `_run_inside`. The program can write where the pieces are: what
        it made of them is looked at afterwards, and who opens them here follows nothing and waits for nothing."""
        self._settle()
        names = [f"/{self._place}/{number}" for number in range(len(pieces))]
        try:
            for name, piece in zip(names, pieces):
                file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                try:
                    left = memoryview(piece)
                    while left:
                        left = left[os.write(file, left) :]
                finally:
                    os.close(file)
            # sha256 tells what is damaged: checksums in frames say nothing more.
            options = ["-c", f"-{self._level}", "-q", "--single-thread", "--no-check"]
            return self._run_inside([f"/{self._program}", *options, "--", *names], files)
        finally:
            for name in names:
                try:
                    os.unlink(name)
                except FileNotFoundError:
                    continue

    def _run_inside(self, argv: List[str], files: List[int]) -> int:
        # A thread may be new when it is to unpack, and is to make frames next.
        self._settle()
        return super()._run_inside(argv, files)

    def _settle(self) -> None:
        """Enter the base's root, if this thread is not there yet."""
        if not getattr(self._here, "entered", False):
            self._enter()
            self._here.entered = True

    def _enter(self) -> None:
        """As `bare_program.enter`, and memory for the pieces: nothing is mounted from inside any more."""
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP)
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount(self._root, self._root, flags=syscalls.MS_BIND)
        syscalls.make_read_only(self._root)
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        memory.mount(Path(self._root, self._place), _ROOM, flags, "mode=700")
        os.chroot(self._root)
        os.chdir("/")
        privileges.keep_only(frozenset())
        syscalls.no_new_privileges()
        seccomp.load()


class Frames:
    """Writes pieces as frames, in order. After `close`: `starts` has where each frame begins, and where the last one ends;
    `plain`, `plain_size`: the sha256 object and the size of all pieces."""

    def __init__(self, out: BinaryIO, packer: FramePacker) -> None:
        self._out = out
        self._packer = packer
        self._pending: "Deque[Future[List[bytes]]]" = deque()
        self._pieces: List[bytes] = []
        self._filled = 0
        self.count = 0
        self.starts = [0]
        self.plain = hashlib.sha256()
        self.plain_size = 0

    def add(self, piece: bytes) -> int:
        """Take the next piece, of 1 to LARGEST_PIECE bytes; returns its frame's number. Raises ToolError."""
        assert 0 < len(piece) <= LARGEST_PIECE
        self.plain.update(piece)
        self.plain_size += len(piece)
        if self._filled + len(piece) > _BATCH or len(self._pieces) == _MOST:
            self._submit()
        self._pieces.append(piece)
        self._filled += len(piece)
        self.count += 1
        return self.count - 1

    def close(self) -> None:
        """Write what is left. Raises ToolError."""
        if self._pieces:
            self._submit()
        while self._pending:
            self._drain()

    def _submit(self) -> None:
        # Bounded, so that memory stays at a few batches whatever the layer's size.
        while len(self._pending) > 2 * self._packer.workers:
            self._drain()
        self._pending.append(self._packer.submit(self._pieces))
        self._pieces, self._filled = [], 0

    def _drain(self) -> None:
        for frame in self._pending.popleft().result():
            self._out.write(frame)
            self.starts.append(self.starts[-1] + len(frame))
