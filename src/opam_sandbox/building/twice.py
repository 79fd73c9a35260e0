"""Compares two installs of the same .debs: what differs is random, or of the time, and would be another layer on each machine."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Dict, List, Mapping

from opam_sandbox.beside import machine_files
from opam_sandbox.errors import BuildFailed
from opam_sandbox.files import CHUNK
from opam_sandbox.layer import ownership
from opam_sandbox.layer.owners import Owner
from opam_sandbox.sandbox import view_files

# A path -> what it is: kind and mode, owner, content.
Installed = Dict[bytes, "tuple[str, str, str]"]

_PARTS = ("mode", "owner", "content")
_MOST_SHOWN = 20
# Files' times are not compared, but seconds in their content are to differ.
_SECONDS = 2.0


def installed(upper: Path, given: Mapping[bytes, Owner]) -> Installed:
    """What an install has written into an unmounted upper directory, but for what is in no layer. Raises OSError."""
    found: Installed = {}
    for path, status in machine_files.walk(upper):
        if ownership.is_shared_below(path, stat.S_ISDIR(status.st_mode)):
            continue
        owner = given.get(path, (status.st_uid, status.st_gid))
        found[path] = (f"{status.st_mode:o}", "%d:%d" % owner, _content(upper, path, status))
    return found


def _content(upper: Path, path: bytes, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return view_files.read_link(upper, os.fsdecode(path))
    file = view_files.open_file(upper, os.fsdecode(path), links=False) if stat.S_ISREG(status.st_mode) else None
    if file is None:
        return str(status.st_rdev) if stat.S_ISCHR(status.st_mode) else ""
    digest = hashlib.sha256()
    with file:
        for data in iter(lambda: file.read(CHUNK), b""):
            digest.update(data)
    return digest.hexdigest()


def wait_for_another_time(start: float) -> None:
    """Wait until it is two seconds later than `start` (of time.monotonic)."""
    time.sleep(max(0.0, start + _SECONDS - time.monotonic()))


def compare(first: Installed, second: Installed, title: str) -> None:
    """Raises BuildFailed, with each path that differs. `title`: the opam package that the .debs are for."""
    lines: List[str] = []
    for path in sorted({*first, *second}):
        one, other = first.get(path), second.get(path)
        if one == other:
            continue
        if one is None or other is None:
            what = "it is there only once"
        else:
            what = ", ".join(part for part, a, b in zip(_PARTS, one, other) if a != b)
        lines.append(f"  /{os.fsdecode(path)} ({what})")
    if not lines:
        return
    more = [f"  and {len(lines) - _MOST_SHOWN} more"] if len(lines) > _MOST_SHOWN else []
    raise BuildFailed(
        "\n".join(
            [
                f"{title}: its depexts, installed twice, are not the same: each machine would make another layer of them",
                *lines[:_MOST_SHOWN],
                *more,
                "If an image does not need these files, name them in [opam].depext_files_left_out",
            ]
        )
    )
