"""Hands secrets to a process: in files that only this user can read, and that are gone when the process has ended.

A process's arguments, environment and inputs are its cache key. They are kept in Pants' store, sent to a remote cache, and
logged. What lies here is in none of them; the process gets the directory's path.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Mapping


@contextmanager
def handed_over(files: Mapping[str, str], name: str = "") -> Iterator[str]:
    """A directory with these files as long as the context; its absolute path. Raises OSError.

    name: what the directory is called, for a process whose result is cached: the path is a part of its key.
    """
    parent = private_directory()
    _sweep(parent)
    directory = parent / f"{os.getpid()}-{secrets.token_hex(8)}"
    directory.mkdir(mode=0o700)
    try:
        for file, text in files.items():
            (directory / file).touch(mode=0o600)
            (directory / file).write_text(text, encoding="utf-8", errors="surrogateescape")
        if name:
            shown = parent / name
            _point(shown, directory)
            yield str(shown)
        else:
            yield str(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if name and os.path.realpath(shown) == str(directory):
            shown.unlink(missing_ok=True)


def private_directory() -> Path:
    """A directory of this user's alone, in memory where the machine has such a place. Raises OSError."""
    for top in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()):
        path = Path(top or "/nonexistent", f"opam-oci-secrets-{os.geteuid()}")
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            found = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077:
            return Path(os.path.realpath(path))
    # Another user has taken the name.
    return Path(os.path.realpath(tempfile.mkdtemp(prefix="opam-oci-secrets-")))


def _point(link: Path, directory: Path) -> None:
    beside = link.with_name(f"{directory.name}.link")
    os.symlink(directory, beside)
    os.replace(beside, link)


def _sweep(parent: Path) -> None:
    """Remove what killed processes have left."""
    for path in parent.iterdir():
        owner = path.name.partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            if path.is_symlink():
                path.unlink(missing_ok=True)
            else:
                shutil.rmtree(path, ignore_errors=True)
