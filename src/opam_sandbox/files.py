"""Reading files whole, in pieces."""

from __future__ import annotations

import hashlib
import os
from typing import Tuple, Union


def file_sha256(path: Union[str, "os.PathLike[str]"]) -> Tuple[str, int]:
    """The sha256 (hex) and the size in bytes of what a file holds. Raises OSError."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb") as content:
        while True:
            data = content.read(1 << 20)
            if not data:
                return digest.hexdigest(), size
            size += len(data)
            digest.update(data)
