"""What lock commands keep between processes: package lists, and what is known of archives. Losing it costs time only.

It lies in the directory that layers are unpacked into. A request names it as `store`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Optional

# A change of what lies here must not meet files of the old kind.
_FORMAT = "locking-v2"


def directory(store: str, *names: str) -> Path:
    """A directory below this user's own part of the cache, made if it is not there. Nothing of that part is taken away as long as
    this process lives."""
    top = Path(os.path.realpath(store), _FORMAT, f"uid-{os.getuid()}")
    top.mkdir(parents=True, exist_ok=True)
    _hold(os.fspath(top))
    path = top.joinpath(*names)
    path.mkdir(parents=True, exist_ok=True)
    return path


@lru_cache(maxsize=None)
def _hold(top: str) -> int:
    # Who prunes the store locks it alone (`store.locking`). What has no locks is not pruned.
    held = os.open(f"{top}/in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_SH)
    return held


def write_whole(path: Path, content: str, synced: bool = False) -> None:
    """Write a file so that readers see all of it or nothing; `synced`: after a power loss, too. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(beside, "w", encoding="utf-8", errors="surrogateescape") as out:
            out.write(content)
            if synced:
                out.flush()
                os.fsync(out.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def key_of(*parts: str) -> str:
    """A key of a `Memo`."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


class Memo:
    """JSON objects by a key that is a file name. Each begins with the sha256 of its key and of what follows: nothing is synced,
    so a power loss may leave another file's content, or a part."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Optional[Dict[str, Any]]:
        """None where there is nothing, or nothing that can be read."""
        try:
            said, _, text = (self._path / key).read_text(encoding="utf-8").partition("\n")
            found = json.loads(text) if said == _digest(key, text) else None
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, key: str, value: Dict[str, Any]) -> None:
        """Keep a value in the place of what the key had. Raises OSError."""
        self._path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(value)
        write_whole(self._path / key, f"{_digest(key, text)}\n{text}")


def _digest(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()
