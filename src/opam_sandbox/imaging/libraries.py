"""Shared libraries that a runtime image's programs load: those that ELF files need, and the OCaml bytecode runtime's."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import List, Optional, Sequence

from opam_sandbox.elf import Elf
from opam_sandbox.imaging.bytecode import Bytecode
from opam_sandbox.imaging.search import WAY_OUT, Search
from opam_sandbox.imaging.selection import SWITCH
from opam_sandbox.imaging.symbol_versions import Symbols, read_symbols
from opam_sandbox.sandbox import view_files

_CONFIGURATION = "ld.conf"
_OWN = ("lib", "usr/lib")
# Where Debian's dynamic linker looks besides.
_BUILT_IN = re.compile(r"(?:usr/)?lib/[a-z0-9_]+-linux-[a-z0-9]+\Z")
# Where packages have their primitives: last, for programs that a script gives another CAML_LD_LIBRARY_PATH.
_PRIMITIVES = tuple(f"{SWITCH}/lib/{part}" for part in ("stublibs", "ocaml/stublibs", "ocaml"))


def follow_elf(search: Search, path: str, elf: Elf) -> None:
    """Take the libraries that the ELF file at `path` needs."""
    if (elf.interpreter or elf.needed) and search.base.other_release[0]:
        here, built = search.base.other_release
        search.problem(
            f"/{path} loads shared libraries, and was linked in {built}; the slim base is {here}. Link it statically, take a "
            f"base of that release, or, {WAY_OUT}"
        )
        return
    if elf.interpreter and not search.has(elf.interpreter):
        search.problem(f"/{path} needs the dynamic linker {elf.interpreter}, which the slim base lacks")
    origin = "/" + os.path.dirname(path)
    own = [part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for part in elf.paths]
    own = [os.path.normpath(part).lstrip("/") for part in own]
    named = search.directories("LD_LIBRARY_PATH")
    own = [*own, *named] if elf.first else [*named, *own]
    # What is preloaded and is not there, the dynamic linker does without.
    preloaded = re.split("[: ]+", search.env.get("LD_PRELOAD", "")) if elf.interpreter else []
    symbols = _symbols(search.full, path) if elf.needed else None
    for name in (*elf.needed, *(one for one in preloaded if one)):
        if "/" in name:
            slim = full = [os.path.dirname(name)]
        else:
            slim = [*own, *_places(search, search.slim)]
            full = [*own, *_places(search, search.full)]
        there = _follow(search, path, name, slim, full, needed=name in elf.needed)
        if there and symbols is not None:
            _compare(search, path, symbols, name, there)


def _places(search: Search, root: Path) -> List[str]:
    """Where the runtime image's dynamic linker looks in a root. Without ldconfig nobody tells it of other directories than those
    that it has of its own: that of a release has the same in each image."""
    if search.base.has_ldconfig:
        return linker_directories(root)
    return [*_OWN, *(place for place in linker_directories(search.full) if _BUILT_IN.match(place))]


def _follow(
    search: Search, path: str, name: str, slim: Sequence[str], full: Sequence[str], needed: bool = True
) -> Sequence[str]:
    """Take the library `name` that the file at `path` loads. `slim`, `full`: the directories of both images, in order.
    needed: it does not run without. Returns where the slim base has it, if that is what is loaded.

    What comes first in the full image is loaded there: one that a package made is not the same as the slim base's.
    """
    file = os.path.basename(name)
    candidates = [f"{place}/{file}" for place in full]
    there = next((one for one in candidates if view_files.exists(search.full, one)), None)
    if there is None and not needed:
        return ()
    if (there is not None and search.is_ours(there)) or not any(search.has(f"{place}/{file}") for place in slim):
        _take(search, path, name, there)
        return ()
    found = [f"{place}/{file}" for place in slim]
    first = next(one for one in found if search.has(one))
    return (
        [one for one in found if view_files.exists(search.slim, one)] if view_files.exists(search.slim, first) else ()
    )


def _symbols(root: Path, path: str) -> Optional[Symbols]:
    file = view_files.open_file(root, path)
    if file is None:
        return None
    with file:
        return read_symbols(file)


def _compare(search: Search, path: str, symbols: Symbols, name: str, places: Sequence[str]) -> None:
    """Say it where the slim base's library `name`, in one of `places`, is not one that the file at `path` can be linked with."""
    for place in places:
        found = _symbols(search.slim, place)
        # Of another machine: the dynamic linker goes on, too.
        if found is not None and found.machine == symbols.machine:
            break
    else:
        search.problem(
            f"/{path} needs the library {name}, and the slim base's /{places[0]} is none for its machine: take another base"
        )
        return
    missing = sorted({version for library, version in symbols.needed if library == name} - found.defined)
    if missing:
        search.problem(
            f"/{path} was linked with a newer {name} than the slim base's /{place}, which lacks {', '.join(missing)}: take a "
            "base that is as new as the one that packages are built in"
        )


def follow_bytecode(search: Search, path: str, bytecode: Bytecode) -> None:
    """Take the primitives of the bytecode program at `path`, and the file by which its runtime finds them."""
    selection = search.selection
    standard = _standard_library(search)
    place = view_files.resolve(search.full, standard) or standard
    for name in sorted(selection.of_packages):
        # Small, and what a program loads by Dynlink may need any of them.
        if name.startswith((f"{place}/stublibs/", f"{place}/{_CONFIGURATION}")):
            selection.take(name)
    own = [*search.directories("CAML_LD_LIBRARY_PATH"), *bytecode.paths]
    slim = [*own, *_primitive_directories(search.slim, standard), *_PRIMITIVES]
    full = [*own, *_primitive_directories(search.full, standard), *_PRIMITIVES]
    for library in bytecode.libraries:
        _follow(search, path, f"{library}.so", slim, full)


def _standard_library(search: Search) -> str:
    """The directory of the standard library: the environment's, as OCaml's runtime reads it, or the switch's."""
    named = next((search.env[name] for name in ("OCAMLLIB", "CAMLLIB") if name in search.env), "")
    return named if named.startswith("/") else f"{SWITCH}/lib/ocaml"


def _take(search: Search, path: str, name: str, there: Optional[str]) -> None:
    """`name`: of a library that the file at `path` needs; `there`: where it is in the full image."""
    if there is None:
        where = (
            ""
            if search.base.has_ldconfig
            else " where a dynamic linker looks without ldconfig, which the slim base lacks"
        )
        search.problem(f"/{path} needs the library {name}, which is not in the full image either{where}")
        return
    real = view_files.resolve(search.full, there) or there
    if real in search.selection.of_packages:
        search.selection.take(there)
    else:
        search.problem(
            f"/{path} needs the library {name}, which is not in the slim base: "
            f"{search.base.remedy(search.owners.describe(real))}"
        )


def linker_directories(root: Path) -> List[str]:
    """Where the dynamic linker looks in a root: ld.so.conf's directories, then its own."""
    found: List[str] = []
    for name in view_files.names(root, "etc/ld.so.conf.d"):
        text = view_files.read_text(root, f"etc/ld.so.conf.d/{name}") if name.endswith(".conf") else None
        for line in (text or "").split("\n"):
            line = line.partition("#")[0].strip()
            if line.startswith("/"):
                found.append(line.strip("/"))
    return [*found, "lib", "usr/lib", "lib64", "usr/lib64"]


def _primitive_directories(root: Path, standard: str) -> List[str]:
    """Where OCaml's bytecode runtimes look in a root: what stands in the ld.conf of the standard library, and of Debian's."""
    places = [standard, "usr/lib/ocaml"]
    for machine in view_files.names(root, "usr/lib"):
        below = f"usr/lib/{machine}/ocaml"
        places += [f"{below}/{version}" for version in view_files.names(root, below)]
    found: List[str] = []
    for place in places:
        text = view_files.read_text(root, f"{place}/{_CONFIGURATION}") or ""
        found += [os.path.join(place, line.strip()) for line in text.split("\n") if line.strip()]
    return found
