"""OCaml libraries that are loaded at run time: by programs that link Dynlink (findlib's and dune-site's loaders do), and by
the toplevel, which runs scripts."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from opam_sandbox.files import CHUNK
from opam_sandbox.imaging.selection import SWITCH, Selection

# The name of an exception that every program with Dynlink in it knows by name.
_MARK = b"Dynlink.Error"

_TOPLEVELS = re.compile(r"(?:ocaml|ocamlnat|utop|utop-full|ocamlscript|down)\Z")

_DESCRIPTIONS = ("META",)
_NATIVE = (*_DESCRIPTIONS, ".cmxs", ".so")
_BYTECODE = (*_DESCRIPTIONS, ".cma", ".cmo", ".so", "ld.conf")
_TOPLEVEL = (*_BYTECODE, ".cmi", "topfind", "_top.ml", "topdirs.ml", "_init.ml")


def is_toplevel(program: str) -> bool:
    """Whether a program is OCaml's toplevel."""
    return bool(_TOPLEVELS.match(os.path.basename(program)))


def loads_plugins(file: BinaryIO) -> bool:
    """Whether an open program has Dynlink in it."""
    file.seek(0)
    before = b""
    for data in iter(lambda: file.read(CHUNK), b""):
        if _MARK in before + data:
            return True
        before = data[-len(_MARK) :]
    return False


def take_for_program(selection: Selection, native: bool) -> None:
    """Take what a program with Dynlink in it may load: libraries of the packages that the roots depend on at run time."""
    selection.take_libraries(_NATIVE if native else _BYTECODE)
    selection.take_if_there(f"{SWITCH}/lib/findlib.conf")


def take_for_toplevel(selection: Selection) -> None:
    """Take what a script of the toplevel may load."""
    selection.take_libraries(_TOPLEVEL)
    selection.take_if_there(f"{SWITCH}/lib/findlib.conf")
