"""What a runtime image's files may look up at run time, and nobody can see from outside: named, so that it can be kept.

Files of packages that a program names by their whole path are taken. What else a program names is said, and so is what of
the packages was left out, since a program may compute a name, or run another one by its name.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, Dict, Iterable, Iterator, List, Sequence, Set

from opam_sandbox import dpkg
from opam_sandbox.files import CHUNK
from opam_sandbox.imaging.elf import Elf
from opam_sandbox.imaging.search import Search
from opam_sandbox.imaging.selection import SWITCH
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox import view_files

_LONGEST_NAME = 255
_PATH = re.compile(
    rb"(?<![\w./-])/(?:home/opam/\.opam/default|usr|etc|lib|lib64|bin|sbin|var|opt)/[\w.+@:~/-]{2,%d}" % _LONGEST_NAME
)
# Compilers, and what they and debuggers read.
_NOT_LOOKED_UP = re.compile(
    rf"usr/(?:include|src|lib/debug|lib/gcc)(?:/|\Z)|{re.escape(SWITCH)}/(?:\.opam-switch|lib/ocaml|bin|lib|man|doc)(?:/|\Z)"
)
_FOR_BUILDS = re.compile(r"(?:\w+/)?(?:libdevel|devel|doc|debug|oldlibs|libs)\Z")
_MOST = 8
# A program that names more than this names them as data.
_MOST_NAMES = 2000


def follow_names(search: Search, path: str, file: BinaryIO, elf: Elf) -> None:
    """Take the packages' files that the ELF file at `path` names; keep a note of others that the slim base lacks."""
    for name in sorted(set(_names(file, elf)))[:_MOST_NAMES]:
        if search.has(name):
            continue
        real = view_files.resolve(search.full, name)
        found = None if real is None else view_files.status(search.full, real)
        if real is None or found is None or _NOT_LOOKED_UP.match(real):
            continue
        if stat.S_ISREG(found.st_mode) and not found.st_mode & 0o111 and real in search.selection.of_packages:
            search.selection.take(name)
        elif not _has_some(search, real):
            search.named.setdefault(real, set()).add(path)


def _has_some(search: Search, directory: str) -> bool:
    return any(path.startswith(f"{directory}/") for path in search.selection.chosen)


def _names(file: BinaryIO, elf: Elf) -> Iterator[str]:
    for offset, length in elf.loaded:
        file.seek(offset)
        before, rest = b"", length
        while rest > 0:
            data = file.read(min(CHUNK, rest))
            if not data:
                break
            rest -= len(data)
            text = before + data
            # A name at the end may go on in what is read next.
            before = text[-(_LONGEST_NAME + 64) :] if rest else b""
            for found in _PATH.findall(text):
                yield os.fsdecode(found).strip("/").rstrip(".:")


def notes(search: Search) -> List[str]:
    """A sentence for each kind of thing that the image may lack."""
    found = []
    programs: Dict[str, Set[str]] = {}
    for real, paths in sorted(search.named.items()):
        if not search.has(real) and not _has_some(search, real):
            programs.setdefault(_where(search, real), set()).update(paths)
    for what, paths in list(programs.items())[:_MOST]:
        found.append(f"{_some('/' + path for path in paths)} may look up {what}, which the image does not have")
    selection = search.selection
    left = {
        os.path.basename(path): name
        for name in sorted(selection.run_time - selection.roots)
        for path in selection.files_of(name)
        if path.startswith((f"{SWITCH}/bin/", f"{SWITCH}/sbin/")) and path not in selection.chosen
    }
    if left:
        found.append(
            "programs of dependencies are left out. If one is run by its name, add it to `runtime_keep`: "
            + _some(f"{program} ({package})" for program, package in left.items())
        )
    if search.scripts:
        found.append(
            "what scripts run and read cannot be seen from outside. Add to `runtime_keep`, or to the slim base, what these "
            "need: " + _some("/" + path for path in search.scripts)
        )
    return found


def _where(search: Search, real: str) -> str:
    if search.owners.owned(real):
        return f"/{real} ({search.owners.describe(real)})"
    return f"/{real}"


def left_out_debs(layers: Sequence[Layer], run_time: Set[str], slim: Path, taken: Set[str]) -> List[str]:
    """A note of the Debian packages that packages asked for (depexts), none of which is in the image.

    `slim`: the slim view's root, `taken`: packages of which files were taken.
    """
    known = {*taken, *(key.partition(":")[0] for key in dpkg.read_status(slim))}
    names = set()
    for layer in layers:
        if layer.kind == "package" and layer.name in run_time:
            for key, paragraph in layer.dpkg.get("status", {}).items():
                section = re.search(r"^Section: *(\S+)", paragraph, re.MULTILINE)
                if not section or not _FOR_BUILDS.match(section.group(1)):
                    names.add(key.partition(":")[0])
    left = sorted(names - known)
    if not left:
        return []
    return [
        "these Debian packages of depexts are left out. If one is needed at run time, add it to the slim base's `packages`: "
        + _some(left, 40)
    ]


def _some(texts: Iterable[str], most: int = _MOST) -> str:
    every = sorted(set(texts))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
