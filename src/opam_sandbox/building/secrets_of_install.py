"""Secrets that maintainer scripts make: an image would publish them, and no two machines make the same.

What is known is left out (`machine_files`). What is not known is an error: a private key or a password in a file that no
.deb has. A .deb's own files, such as the keys of a library's tests, are the same for everybody, and are left alone.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set

from opam_sandbox.beside import machine_files
from opam_sandbox.errors import BuildFailed
from opam_sandbox.layer import ownership
from opam_sandbox.layer.capture import EPOCH
from opam_sandbox.sandbox import view_files

# What stands in a shadow file's second field where there is no password (shadow(5)).
_NO_PASSWORD = re.compile(r"[!*x]*")
_SHADOW = "etc/shadow"
_DAY = str(EPOCH // 86400)


def refuse(upper: Path, lower: Sequence[bytes], title: str) -> None:
    """Raises BuildFailed where an install has made a secret that no rule knows. Directories as `machine_files.settle` has them;
    `title`: the opam package that the .debs are for."""
    found = _keys(upper, lower)
    if found:
        names = ", ".join(f"/{os.fsdecode(path)}" for path in found[:5])
        raise BuildFailed(
            f"{title}: a maintainer script of its depexts makes a private key: {names} ({_packages(upper, found[0])}). In an "
            "image it would be no secret, and each build would make another one. To leave it out, name it in "
            "[opam].depext_files_left_out"
        )
    for name, fields in _changed(upper, lower).items():
        if len(fields) > 1 and not _NO_PASSWORD.fullmatch(fields[1]):
            raise BuildFailed(
                f"{title}: a maintainer script of its depexts gives the account {name!r:.80} a password, which in an image "
                "would be no secret"
            )


def _keys(upper: Path, lower: Sequence[bytes]) -> List[bytes]:
    shipped: Optional[Set[bytes]] = None
    found: List[bytes] = []
    for path, status in machine_files.walk(upper):
        if not stat.S_ISREG(status.st_mode) or status.st_size > machine_files.LARGEST_KEY or not status.st_size:
            continue
        if ownership.is_opams(path) or ownership.is_shared_below(path, False):
            continue
        if shipped is None:
            shipped = machine_files.read_shipped(upper, lower)
        if path not in shipped and machine_files.KEY.search(
            view_files.read(upper, os.fsdecode(path), links=False) or b""
        ):
            found.append(path)
    return sorted(found)


def _packages(upper: Path, path: bytes) -> str:
    """Those of the installed packages whose scripts name the file or its directory; all that have scripts, if none does."""
    scripts = [name for name in view_files.names(upper, "var/lib/dpkg/info") if name.endswith(".postinst")]
    base, directory = os.path.basename(path), os.path.dirname(path)
    naming = [
        name
        for name in scripts
        for text in [view_files.read(upper, f"var/lib/dpkg/info/{name}", links=False) or b""]
        if base in text or directory in text
    ]
    names = sorted(name[: -len(".postinst")].partition(":")[0] for name in naming or scripts)
    return "it is of " + (" or ".join(names[:5]) or "one of them")


def set_dates(upper: Path, lower: Sequence[bytes]) -> None:
    """Give the accounts that an install has added or changed one date, whatever their tools think of the time."""
    changed = _changed(upper, lower)
    text = view_files.read_text(upper, _SHADOW, links=False)
    if text is None or not changed:
        return
    lines: List[str] = []
    for line in text.split("\n"):
        fields = line.split(":")
        if changed.get(fields[0]) == fields and len(fields) > 2 and fields[2].isascii() and fields[2].isdigit():
            fields[2] = _DAY
        lines.append(":".join(fields))
    new = "\n".join(lines)
    if new != text:
        view_files.overwrite(upper, _SHADOW, new.encode("utf-8", "surrogateescape"))


def _changed(upper: Path, lower: Sequence[bytes]) -> Dict[str, List[str]]:
    """The accounts of the upper directory's shadow file that are not so in a layer below."""
    text = view_files.read_text(upper, _SHADOW, links=False)
    if text is None:
        return {}
    known: Set[str] = set()
    for directory in lower:
        known.update((view_files.read_text(Path(os.fsdecode(directory)), _SHADOW, links=False) or "").split("\n"))
    return {line.split(":")[0]: line.split(":") for line in text.split("\n") if line and line not in known}
