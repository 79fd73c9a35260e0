"""OCaml libraries that are loaded at run time: by programs that link Dynlink (findlib's and dune-site's loaders do), and by
the toplevel, which runs scripts."""

from __future__ import annotations

import os
import re
from typing import BinaryIO, Set

from opam_sandbox.files import CHUNK
from opam_sandbox.imaging.search import Search
from opam_sandbox.imaging.selection import SWITCH
from opam_sandbox.sandbox import view_files

# The name of an exception that every program with Dynlink in it has in it, and that of findlib's configuration.
_DYNLINK, _FINDLIB = b"Dynlink.Error", b"findlib.conf"

_TOPLEVELS = re.compile(r"(?:ocaml|ocamlnat|utop|utop-full|ocamlscript|down)\Z")

_DESCRIPTIONS = ("META",)
_NATIVE = (*_DESCRIPTIONS, ".cmxs", ".so")
_BYTECODE = (*_DESCRIPTIONS, ".cma", ".cmo", ".so", "ld.conf")
_TOPLEVEL = (*_BYTECODE, ".cmi", "topfind", "_top.ml", "topdirs.ml", "_init.ml")


def is_toplevel(program: str) -> bool:
    """Whether a program is OCaml's toplevel."""
    return bool(_TOPLEVELS.match(os.path.basename(program)))


def follow(search: Search, file: BinaryIO, native: bool) -> None:
    """Take what an open program may load: with Dynlink in it, libraries of the packages that the roots depend on at run
    time; with findlib in it, the descriptions of libraries."""
    marks, selection = _marks(file), search.selection
    if _DYNLINK in marks:
        selection.take_libraries(_NATIVE if native else _BYTECODE)
    elif _FINDLIB in marks:
        selection.take_libraries(_DESCRIPTIONS)
    if marks:
        _take_configuration(search)


def _marks(file: BinaryIO) -> Set[bytes]:
    file.seek(0)
    found: Set[bytes] = set()
    before = b""
    for data in iter(lambda: file.read(CHUNK), b""):
        text = before + data
        found.update(mark for mark in (_DYNLINK, _FINDLIB) if mark in text)
        before = data[-len(_DYNLINK) :]
    return found


def take_for_toplevel(search: Search) -> None:
    """Take what a script of the toplevel may load."""
    search.selection.take_libraries(_TOPLEVEL)
    _take_configuration(search)


def _take_configuration(search: Search) -> None:
    """findlib's own, and the one that the image's environment names."""
    named = view_files.resolve(search.full, search.env.get("OCAMLFIND_CONF", ""))
    for path in (f"{SWITCH}/lib/findlib.conf", named):
        if path:
            search.selection.take_if_there(path)
