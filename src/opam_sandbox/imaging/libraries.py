"""Shared libraries that a runtime image's programs load: those that ELF files need, and the OCaml bytecode runtime's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

from opam_sandbox.imaging.bytecode import Bytecode
from opam_sandbox.imaging.elf import Elf
from opam_sandbox.imaging.search import Search
from opam_sandbox.imaging.selection import SWITCH
from opam_sandbox.sandbox import view_files

_CONFIGURATION = "ld.conf"
# CAML_LD_LIBRARY_PATH of images, where they do not set another.
_PRIMITIVES = tuple(f"{SWITCH}/lib/{part}" for part in ("stublibs", "ocaml/stublibs", "ocaml"))


def follow_elf(search: Search, path: str, elf: Elf) -> None:
    """Take the libraries that the ELF file at `path` needs."""
    if elf.interpreter and not search.has(elf.interpreter):
        search.problem(f"/{path} needs the dynamic linker {elf.interpreter}, which the slim base lacks")
    origin = "/" + os.path.dirname(path)
    own = [part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for part in elf.paths]
    own = [os.path.normpath(part).lstrip("/") for part in own]
    for name in elf.needed:
        file = os.path.basename(name)
        if "/" in name:
            slim = full = [os.path.dirname(name)]
        else:
            slim = [*own, *linker_directories(search.slim)]
            full = [*own, *linker_directories(search.full)]
        if not any(search.has(f"{place}/{file}") for place in slim):
            _take(search, path, name, [f"{place}/{file}" for place in full])


def follow_bytecode(search: Search, path: str, bytecode: Bytecode) -> None:
    """Take the primitives of the bytecode program at `path`, and the file by which its runtime finds them."""
    selection = search.selection
    for name in sorted(selection.of_packages):
        # Small, and what a program loads by Dynlink may need any of them.
        if name.startswith((f"{SWITCH}/lib/ocaml/stublibs/", f"{SWITCH}/lib/ocaml/{_CONFIGURATION}")):
            selection.take(name)
    for library in bytecode.libraries:
        file = f"{library}.so"
        slim = [*bytecode.paths, *_PRIMITIVES, *_primitive_directories(search.slim)]
        full = [*bytecode.paths, *_PRIMITIVES, *_primitive_directories(search.full)]
        if not any(search.has(f"{place}/{file}") for place in slim):
            _take(search, path, file, [f"{place}/{file}" for place in full])


def _take(search: Search, path: str, name: str, candidates: List[str]) -> None:
    """`name`: of a library that the file at `path` needs, in the first of the candidates that is there."""
    there = next((one for one in candidates if view_files.exists(search.full, one)), None)
    if there is None:
        search.problem(f"/{path} needs the library {name}, which is not in the full image either")
        return
    real = view_files.resolve(search.full, there) or there
    if real in search.selection.of_packages:
        search.selection.take(there)
    else:
        search.problem(
            f"/{path} needs the library {name}, which is not in the slim base: add {search.owners.describe(real)} to its "
            "`packages`"
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


def _primitive_directories(root: Path) -> List[str]:
    """Where OCaml's bytecode runtimes look in a root: what stands in the ld.conf of the switch's OCaml, and of Debian's."""
    places = [f"{SWITCH}/lib/ocaml", "usr/lib/ocaml"]
    for machine in view_files.names(root, "usr/lib"):
        below = f"usr/lib/{machine}/ocaml"
        places += [f"{below}/{version}" for version in view_files.names(root, below)]
    found: List[str] = []
    for place in places:
        text = view_files.read_text(root, f"{place}/{_CONFIGURATION}") or ""
        found += [os.path.join(place, line.strip()) for line in text.split("\n") if line.strip()]
    return found
