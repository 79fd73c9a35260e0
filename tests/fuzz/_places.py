"""Directories for subjects whose readers take files."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=None)
def place(name: str) -> Path:
    """A directory of this process, which is removed at its end."""
    directory = tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-")
    _KEPT.append(directory)
    return Path(directory.name)


_KEPT: "list[tempfile.TemporaryDirectory[str]]" = []
