"""What is to be deleted from the store: moved aside in one step, so that no crash leaves a half under its name.

gone/<name>.<random>     deleted by who moved it, or, after a kill, by who comes next
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from opam_sandbox.files import remove_tree
from opam_sandbox.layer import store_use

DIRECTORY = "gone"


def move_aside(root: Path, path: Path) -> Path:
    """Take its name from a file or directory of the store, of which `root` is a user's part; returns where it is then.

    Raises OSError."""
    target = root / DIRECTORY / f"{path.name[:64]}.{os.urandom(8).hex()}"
    os.rename(path, target)
    return target


def sweep(root: Path) -> None:
    """Delete what nobody uses any more of what was moved aside; the rest, and what cannot be deleted, stays for the next time.

    Raises ToolError where the disk has no locks, OSError.
    """
    for name in os.listdir(root / DIRECTORY):
        path = root / DIRECTORY / name
        try:
            held = store_use.hold_alone(path)
        except OSError:
            continue  # a mount may still show it, or somebody else is about to delete it
        try:
            with suppress(OSError):
                remove_tree(path)
        finally:
            if held != store_use.NOTHING:
                os.close(held)
