"""What a runtime image's files may look up at run time, and nobody can see from outside: named, so that it can be kept.

Files of packages that a program names by their whole path are taken. What else a program names is said, and so is what of
the packages was left out, since a program may compute a name, or run another one by its name.
"""

from __future__ import annotations

import os
import re
import stat
from typing import BinaryIO, Dict, Iterable, Iterator, List, Sequence, Set

from opam_sandbox import dpkg
from opam_sandbox.elf import Elf
from opam_sandbox.files import CHUNK
from opam_sandbox.imaging.libraries import linker_directories
from opam_sandbox.imaging.search import Search
from opam_sandbox.imaging.selection import SWITCH
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox import view_files

_LONGEST_NAME = 255
# "/" first: the search skips to it.
_PATH = re.compile(
    rb"/(?<![\w./-]/)(?:home/opam/\.opam/default|usr|etc|lib|lib64|bin|sbin|var|opt)/[\w.+@:~/-]{2,%d}" % _LONGEST_NAME
)
# What is given to dlopen(3).
_LIBRARY = re.compile(rb"lib(?<![\w./+-]lib)[\w+.-]{1,80}\.so(?:\.[0-9.]+)?(?![\w.+-])")
# Compilers, and what they and debuggers read.
_NOT_LOOKED_UP = re.compile(
    r"usr/(?:include|src|lib/debug|lib/gcc|(?:lib|share)/(?:[\w-]+/)?pkgconfig)(?:/|\Z)"
    rf"|{re.escape(SWITCH)}/(?:(?:\.opam-switch|lib/ocaml|man|doc)(?:/|\Z)|(?:bin|lib|bin/ocaml[^/]*)\Z"
    r"|.*\.(?:mli?|ml[ly]|c|h|cm[it]|cmti|cmxa?|a|o)\Z)"
)
_FOR_BUILDS = re.compile(r"(?:\w+/)?(?:libdevel|devel|doc|debug)\Z")
# Of a Debian package: what people and dpkg read, and libraries, which are found where they are needed (but NSS modules).
_FOUND = re.compile(
    r"usr/share/(?:doc|doc-base|lintian|bug|man|info|locale|gir-1\.0|pkgconfig)/|etc/ld\.so\.conf\.d/"
    r"|(?:usr/)?lib/(?:[^/]+/)?lib(?!nss_)[^/]*\.so[.0-9]*\Z"
)
# A script that OCaml runs has it; else nobody compiles in a runtime image.
_COMPILERS = {"dune", "ocaml", "ocaml-base-compiler", "ocaml-compiler", "ocaml-variants", "ocamlbuild", "ocamlfind"}
_MOST = 8
_MOST_PROGRAMS = 40
# A program that names more than this names them as data.
_MOST_NAMES = 2000


def follow_names(search: Search, path: str, file: BinaryIO, elf: Elf) -> None:
    """Take the packages' files that the ELF file at `path` names; keep a note of others that the slim base lacks."""
    names = set(_names(file, elf, _PATH))
    libraries = set(_names(file, elf, _LIBRARY)) - {os.path.basename(needed) for needed in elf.needed}
    places = linker_directories(search.full) if libraries else []
    for library in sorted(libraries)[:_MOST_NAMES]:
        found = [f"{place}/{library}" for place in places if view_files.exists(search.full, f"{place}/{library}")]
        names.update(found[:1])
    for name in sorted(names)[:_MOST_NAMES]:
        if not search.has(name):
            _follow_name(search, path, name)


def _follow_name(search: Search, path: str, name: str) -> None:
    real = view_files.resolve(search.full, name)
    found = None if real is None else view_files.status(search.full, real)
    if real is None or found is None or _NOT_LOOKED_UP.match(real):
        return
    # A program is not the whole of its package.
    is_data = not found.st_mode & 0o111 or ".so" in os.path.basename(real)
    if stat.S_ISREG(found.st_mode) and is_data and real in search.selection.of_packages:
        search.selection.take(name)
    elif not _has_some(search, real):
        search.named.setdefault(real, set()).add(path)


def _has_some(search: Search, directory: str) -> bool:
    return any(path.startswith(f"{directory}/") for path in search.selection.chosen)


def _names(file: BinaryIO, elf: Elf, pattern: "re.Pattern[bytes]") -> Iterator[str]:
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
            for found in pattern.findall(text):
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
        for name in sorted(selection.run_time - selection.roots - _COMPILERS)
        for path in selection.files_of(name)
        if path.startswith((f"{SWITCH}/bin/", f"{SWITCH}/sbin/")) and path not in selection.chosen
    }
    if left:
        found.append(
            "programs of dependencies are left out. If one is run by its name, add it to `runtime_keep`: "
            + _some((f"{program} ({package})" for program, package in left.items()), _MOST_PROGRAMS)
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


def left_out_debs(layers: Sequence[Layer], search: Search) -> List[str]:
    """A note of the Debian packages that packages asked for (depexts), and that have data or programs which are left out."""
    selection = search.selection
    present = {key.partition(":")[0] for key in dpkg.read_status(search.slim)}
    names = set()
    for layer in layers:
        if layer.kind == "package" and layer.name in selection.run_time:
            for key, paragraph in layer.dpkg.get("status", {}).items():
                section = re.search(r"^Section: *(\S+)", paragraph, re.MULTILINE)
                if not section or not _FOR_BUILDS.match(section.group(1)):
                    names.add(key.partition(":")[0])
    left = {
        owner
        for path, owner in search.owners.all(selection.of_packages - selection.chosen)
        if owner in names and owner not in present and not _FOUND.match(path)
    }
    if not left:
        return []
    way = "take a slim base that has it" if search.base.foreign else "add it to the slim base's `packages`"
    return [
        f"these Debian packages of depexts are left out, or most of them. If one is needed at run time, {way}: "
        + _some(left, _MOST_PROGRAMS)
    ]


def _some(texts: Iterable[str], most: int = _MOST) -> str:
    every = sorted(set(texts))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
