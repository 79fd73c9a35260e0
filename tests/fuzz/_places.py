"""Directories for subjects whose readers take files."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=None)
def place(name: str) -> Path:
    """A directory of this process, which is removed at its end."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-", dir=memory)
    _KEPT.append(directory)
    return Path(directory.name)


_KEPT: "list[tempfile.TemporaryDirectory[str]]" = []
