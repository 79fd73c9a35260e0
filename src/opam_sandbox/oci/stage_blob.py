"""Puts a blob beside the blobs of a layout: by a hard link or as a copy, its digest compared, synced to disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Tuple

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.oci.layout import Descriptor, blob_path, check_blobs


def fetch(source: Path, descriptor: Descriptor, target: Path) -> bool:
    """Stage a blob, checked and synced; says whether it was a hard link. Raises ToolError for a damaged one."""
    path = blob_path(source, descriptor["digest"])
    check_blobs(source, [descriptor])
    try:
        linked = _link(path, target)
        found, size = file_sha256(target) if linked else _copy(path, target)
        if f"sha256:{found}" != descriptor["digest"] or size != descriptor["size"]:
            target.unlink()
            raise ToolError(
                f"the blob {path} is damaged: it has {size} bytes with sha256:{found}, but should have "
                f"{descriptor['size']} with {descriptor['digest']}"
            )
        sync(target)
    except OSError as error:
        if machine_errors.is_of_machine(error):
            raise
        raise ToolError(f"the blob {path} cannot be put into {target.parent}: {error}") from None
    return linked


def _link(source: Path, target: Path) -> bool:
    """Hard link a file that nobody may write to: with two names, a write to one is a write to both."""
    if stat.S_IMODE(os.stat(source).st_mode) & 0o222:
        return False
    try:
        os.link(source, target)
    except OSError:
        # Another file system, one without links, too many of them, or a file of somebody else.
        return False
    return True


def _copy(source: Path, target: Path) -> Tuple[str, int]:
    with open(target, "xb") as out:
        found = file_sha256(source, out.write)
        os.fchmod(out.fileno(), 0o444)
    return found


def sync(path: Path) -> None:
    """Write a file, or a directory's names, to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
