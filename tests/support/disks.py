"""Small file systems for tests, mounted where a test wants them. They need root.

Mount them in `apart` only: a process that somebody else starts in a mount namespace of its own would keep a copy of the mount,
and with it the file system alive, long after it was unmounted here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Sequence, TypeVar

from opam_sandbox.sandbox import syscalls


class NoDiskError(Exception):
    """This machine makes no such file system: the message says why."""


T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """What `work` returns in a process with a mount namespace of its own; its mounts are gone afterwards.

    Raises NoDiskError where there are no mount namespaces, or `work` does, AssertionError with the traceback for other errors.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with open(writer, "wb") as out:
            pickle.dump(_apart(work), out)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        data = answer.read()
    os.waitpid(child, 0)
    if not data:
        raise AssertionError("the process was killed")
    kind, value = pickle.loads(data)
    if kind == "no disk":
        raise NoDiskError(value)
    if kind == "error":
        raise AssertionError(value)
    result: T = value
    return result


def _apart(work: Callable[[], object]) -> "tuple[str, object]":
    try:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        except OSError as error:
            return "no disk", f"this machine gives no mount namespace: {error}"
        return "result", work()
    except NoDiskError as error:
        return "no disk", str(error)
    except BaseException:
        return "error", traceback.format_exc()


def run(*argv: object, allowed: Sequence[int] = (0,)) -> str:
    """Run a program and return what it prints. Raises NoDiskError where it fails or is not there."""
    words = [os.fsdecode(os.fspath(word)) if isinstance(word, os.PathLike) else str(word) for word in argv]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError as error:
        raise NoDiskError(f"this machine lacks {error.filename}") from None
    if done.returncode not in allowed:
        raise NoDiskError(f"{' '.join(words)} ended with {done.returncode}: {done.stdout}")
    return done.stdout


@contextmanager
def memory(at: Path, size: int, kind: str = "tmpfs", options: str = "") -> Iterator[None]:
    """A file system in memory at the directory `at`; `size` in bytes (of a ramfs without meaning)."""
    at.mkdir(exist_ok=True)
    words = [f"size={size}", "mode=755", *([options] if options else [])]
    try:
        syscalls.mount("none", at, kind, 0, ",".join(words) if kind == "tmpfs" else options)
    except OSError as error:
        raise NoDiskError(f"{kind} is not mounted here: {error}") from None
    try:
        yield
    finally:
        syscalls.umount(at, syscalls.MNT_DETACH)


def make_ext4(image: Path, size: int, *options: str) -> None:
    """A file with an empty ext4. Raises NoDiskError."""
    with open(image, "wb") as out:
        out.truncate(size)
    run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", *options, image)


@contextmanager
def loop(image: Path, at: Path, kind: str = "ext4", options: str = "defaults") -> Iterator[str]:
    """A file as a disk, mounted; gives the block device. Raises NoDiskError."""
    at.mkdir(exist_ok=True)
    device = run("losetup", "--find", "--show", image).strip()
    try:
        run("mount", "-t", kind, "-o", options, device, at)
        try:
            yield device
        finally:
            run("umount", at)
    finally:
        run("losetup", "--detach", device)
