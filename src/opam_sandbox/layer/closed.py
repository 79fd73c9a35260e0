"""Which names of a layer are not for everybody (see `sandbox.closed`), kept beside the layer in the store.

The file `closed`: the sha256 (hex) of what follows, a newline, the names, each with a NUL. It is made at any time, from the
inventory, and made again if it is damaged.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import List, Optional

from opam_sandbox.layer import inventory
from opam_sandbox.sandbox import closed


def names(layer: Path) -> List[str]:
    """As `closed.names`, of a layer's directory in the store. Raises OSError."""
    record = layer.parent / "closed"
    found = _read(record)
    if found is None:
        recorded = inventory.modes((layer.parent / "inventory").read_bytes())
        if recorded is None:
            return closed.names(layer)
        found = [
            os.fsdecode(name)
            for name, mode in recorded
            if closed.kind(mode) and not closed.is_left_out(os.fsdecode(name))
        ]
        _write(record, found)
    return found


def _read(record: Path) -> Optional[List[str]]:
    try:
        digest, _, body = record.read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest != hashlib.sha256(body).hexdigest().encode():
        return None
    return [os.fsdecode(name) for name in body.split(b"\0")[:-1]]


def _write(record: Path, found: List[str]) -> None:
    body = b"".join(os.fsencode(name) + b"\0" for name in found)
    temporary = record.with_name(f"closed.{os.urandom(4).hex()}")
    try:
        temporary.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        os.replace(temporary, record)
    except OSError:
        pass  # who comes next reads the inventory again
