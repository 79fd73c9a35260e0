"""Files and directories of this process's own: hashing, writing JSON whole, removing trees."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, Callable, Tuple, Union

CHUNK = 1 << 20


def file_sha256(
    path: Union[str, "os.PathLike[str]"], write: Callable[[bytes], object] = lambda data: None
) -> Tuple[str, int]:
    """The sha256 (hex) and the size in bytes of what a file holds, which also goes to `write`. Raises OSError."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb") as content:
        for data in iter(lambda: content.read(CHUNK), b""):
            size += len(data)
            digest.update(data)
            write(data)
    return digest.hexdigest(), size


def write_json(path: str, data: Any) -> None:
    """Write JSON with sorted keys, whole or not at all. Raises OSError."""
    temporary = f"{path}.tmp"
    try:
        # A byte that was no UTF-8, where it was read, gets the escape that JSON has for it (`\\udcff`).
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as out:
            json.dump(data, out, indent=1, sort_keys=True, ensure_ascii=False)
            out.write("\n")
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Remove a tree, or a file, if it is there, whatever its directories' modes (overlayfs leaves a work directory of mode 0).

    Raises OSError.
    """
    if not os.path.lexists(path):
        return
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        _open_directories(os.fsencode(path))
        shutil.rmtree(path)


def _open_directories(path: bytes) -> None:
    # Directories only: a file's mode has no say in its removal, and other names of the file may be in use.
    os.chmod(path, stat.S_IRWXU)
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _open_directories(entry.path)
