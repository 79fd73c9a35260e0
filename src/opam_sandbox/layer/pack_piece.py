"""Has a program of the base pack a piece of a layer, and makes sure that readers find the piece in what it made."""

from __future__ import annotations

import os
import signal
import zlib
from contextlib import ExitStack
from io import FileIO
from typing import Any, List, NoReturn

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import bare_program, syscalls

# zlib's number for: one gzip member, of any window size.
_GZIP_MEMBER = 31
# Of one piece. Programs make one; reading very many takes long.
_MOST_MEMBERS = 16
# Bytes of it that are read at once. They unpack to 16 MiB at most.
_STEP = 16 << 10
# Python ignores these signals, and what is started does as well, if nothing is said.
_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


class Packer:
    """root: a directory with the base's files. program: a path in it. name: what messages call it."""

    def __init__(self, root: str, program: str, name: str) -> None:
        self._root = root
        self._program = program
        self._name = name
        self._threads: Any = None
        self._others: List[int] = []
        self._here: Any = None

    def start(self, workers: int) -> None:
        """Have threads that live in the base's root, for `pack` of as many other threads. Else each call of a program makes the
        surroundings of its own: that takes as long as to pack half a megabyte."""
        # Either takes as long to import as a small layer to pack.
        import threading
        from concurrent.futures import ThreadPoolExecutor

        self._here = threading.local()
        self._threads = ThreadPoolExecutor(workers)
        # Descriptors that this process was given, and that are not the program's.
        self._others = [
            number for number in map(int, os.listdir("/proc/self/fd")) if number > 2 and _is_inherited(number)
        ]

    def stop(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def pack(self, argv: List[str], piece: bytes) -> bytes:
        """What the program makes of a piece. Raises ToolError where it fails, or makes something else."""
        packed = self._call(argv, piece)
        if not self._holds(packed, piece):
            raise ToolError(
                f"the base's /{self._program} makes something else of a layer's content than that content: the base's "
                "packages are faulty, or malicious. Lock the base anew, or with other packages"
            )
        return packed

    def _holds(self, packed: bytes, piece: bytes) -> bool:
        """Whether readers find a piece in it. A program of the base may do what it likes, and images know a layer's content by
        the sha256 of what went into it."""
        if self._name == "gzip":
            return _are_members(packed, piece)
        # Python has no reader for zstd: its own program finds its faults, if not its lies.
        return self._call([f"/{self._program}", "-d", "-c", "-q"], packed) == piece

    def _call(self, argv: List[str], content: bytes) -> bytes:
        try:
            with ExitStack() as stack:
                piece, packed, errors = (stack.enter_context(in_memory(name)) for name in ("piece", "packed", "errors"))
                left = memoryview(content)
                while left:
                    left = left[piece.write(left) :]
                piece.seek(0)
                if self._threads is None:
                    status = self._run(argv, piece, packed, errors)
                else:
                    files = [file.fileno() for file in (piece, packed, errors)]
                    status = self._threads.submit(self._run_inside, argv, files).result()
                for file in (packed, errors):
                    file.seek(0)
                result, said = packed.readall(), errors.readall()
        except OSError as error:
            raise ToolError(f"the base's {self._name} does not run: {error}") from None
        if status != 0:
            raise ToolError(f"the base's {self._name} failed (exit status {status}): {said.decode(errors='replace')}")
        return result

    def _run(self, argv: List[str], piece: FileIO, packed: FileIO, errors: FileIO) -> int:
        """The program's exit status, -N for a signal. Only in a process of one thread. Raises OSError where it does not run."""
        told, tell = os.pipe()
        try:
            child = os.fork()
            if child == 0:
                self._become(argv, [file.fileno() for file in (piece, packed, errors)], tell)
        finally:
            os.close(tell)
        try:
            with open(told, "rb") as messages:
                message = messages.read().decode(errors="replace")
        finally:
            status = _exit_status(child)
        if message:
            raise OSError(message)
        return status

    def _become(self, argv: List[str], files: List[int], tell: int) -> NoReturn:
        """Become the program; says by `tell`, which a program does not have, why that is not to be."""
        try:
            bare_program.enter(self._root)
            for number, file in enumerate(files):
                os.dup2(file, number)
            syscalls.close_descriptors({0, 1, 2, tell})
            for number in _PYTHONS_OWN:
                signal.signal(number, signal.SIG_DFL)
            os.execve(argv[0], argv, _ENVIRONMENT)
        except BaseException as error:
            os.write(tell, str(error).encode())
        finally:
            os._exit(1)

    def _run_inside(self, argv: List[str], files: List[int]) -> int:
        """As `_run`, in a thread that has the base's root as its own, which it enters first.

        Nothing else is done in such a thread: Python would find modules in the base that it has yet to import, and run them.
        posix_spawn copies no page tables, as a fork does."""
        if not getattr(self._here, "entered", False):
            bare_program.enter(self._root)
            self._here.entered = True
        actions: List[Any] = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files)]
        actions += [(os.POSIX_SPAWN_CLOSE, number) for number in self._others]
        pid = os.posix_spawn(argv[0], argv, _ENVIRONMENT, file_actions=actions, setsigdef=_PYTHONS_OWN)
        return _exit_status(pid)


def _exit_status(pid: int) -> int:
    status = os.waitpid(pid, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False  # that by which the list was read


def _are_members(packed: bytes, piece: bytes) -> bool:
    """Whether these are gzip members one after another that hold `piece`.

    They are read a step at a time, so that nothing large is held whatever a member says."""
    at, done = 0, 0
    for _ in range(_MOST_MEMBERS):
        reader = zlib.decompressobj(_GZIP_MEMBER)
        while not reader.eof:
            step = packed[at : at + _STEP]
            at += len(step)
            try:
                plain = reader.decompress(step)
            except zlib.error:
                return False
            if not step or not piece.startswith(plain, done):
                return False
            done += len(plain)
        at -= len(reader.unused_data)
        if at == len(packed):
            return done == len(piece)
    return False


def in_memory(name: str) -> FileIO:
    """A file for a piece. Through pipes, Python would pass it on in 4 KiB at a time; and programs map a file that is one."""
    return open(os.memfd_create(name), "w+b", buffering=0)
