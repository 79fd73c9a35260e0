"""ELF files and scripts, whatever they hold: what they need is found, or there is a sentence about it."""

from __future__ import annotations

import io
import os
import struct
from typing import List

from opam_sandbox.elf import read_elf
from opam_sandbox.errors import ToolError
from opam_sandbox.imaging.debian_files import Owners
from opam_sandbox.imaging.needs import Needs
from opam_sandbox.imaging.selection import Selection
from tests.fuzz._places import place


def _elf(wide: bool, order: str) -> bytes:
    """A library with an interpreter, a RUNPATH and two needed libraries."""
    strings = b"\0libc.so.6\0libm.so.6\0$ORIGIN/../lib:/opt/lib\0"
    interpreter = b"/lib64/ld-linux-x86-64.so.2\0"
    head, entry, dyn = (64, 56, 16) if wide else (52, 32, 8)
    at_interpreter = head + 3 * entry
    at_strings = at_interpreter + len(interpreter)
    at_dynamic = at_strings + len(strings)
    pairs = [(1, 1), (1, 11), (29, 21), (5, 0x1000 + at_strings), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack(order + ("qQ" if wide else "iI"), *pair) for pair in pairs)
    whole = at_dynamic + len(dynamic)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + b"\0" * 9
    if wide:
        header = struct.pack(order + "HHIQQQIHHHHHH", 3, 62, 1, 0, head, 0, 0, head, entry, 3, 0, 0, 0)
        row = order + "IIQQQQQQ"
        rows = [(1, 5, 0, 0x1000, 0, whole, whole, 0), (2, 5, at_dynamic, 0, 0, len(dynamic), 0, 0)]
        rows.append((3, 5, at_interpreter, 0, 0, len(interpreter), 0, 0))
    else:
        header = struct.pack(order + "HHIIIIIHHHHHH", 3, 3, 1, 0, head, 0, 0, head, entry, 3, 0, 0, 0)
        row = order + "IIIIIIII"
        rows = [(1, 0, 0x1000, 0, whole, whole, 5, 0), (2, at_dynamic, 0, 0, len(dynamic), 0, 5, 0)]
        rows.append((3, at_interpreter, 0, 0, len(interpreter), 0, 5, 0))
    return ident + header + b"".join(struct.pack(row, *one) for one in rows) + interpreter + strings + dynamic


def _bytecode() -> bytes:
    sections = [
        (b"RNTM", b"/bin/ocamlrun\0"),
        (b"DLPT", b"/opt/lib\0"),
        (b"DLLS", b"dllunix\0dllx\0"),
        (b"DATA", b"Dynlink.Error"),
    ]
    table = b"".join(struct.pack(">4sI", name, len(content)) for name, content in sections)
    head = b"#!/bin/ocamlrun\n" + b"".join(content for _, content in sections)
    return head + table + struct.pack(">I12s", len(sections), b"Caml1999X035")


SEEDS: List[bytes] = [_elf(True, "<"), _elf(False, ">"), b"#!/usr/bin/env python3\n", b"#! /bin/sh -e \nexit\n"]
SEEDS += [b"#!/usr/bin/env -S -i X=1 'a b'\\_${HOME} \\c #\n", b"#!/usr/bin/env ocaml\n", _bytecode()]
for _seed in SEEDS[:2]:
    assert read_elf(io.BytesIO(_seed)) is not None, "a seed is no ELF file"
TOKENS = [b"libc.so.6\0", b"$ORIGIN", b"${ORIGIN}", b"/../", b":", b"\x7fELF", b"#!", b"#!/\0", b"\xff.so"]
TOKENS += [b"env ", b"-S", b"-u", b"--", b"PATH=", b"\\_", b"${X}", b"'", b'"', b"DLLS", b"Caml1999X035"]
_PROGRAM = "home/opam/.opam/default/bin/p"


def run(data: bytes) -> None:
    elf = read_elf(io.BytesIO(data))
    if elf is not None:
        assert not any("\0" in text for text in (*elf.needed, *elf.paths, elf.interpreter))
        assert sum(map(len, elf.needed)) < 1 << 24
    full, slim, tree = (place(name) for name in ("full", "slim", "tree"))
    for root in (full, tree):
        path = root / _PROGRAM
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name in ("lib/libc.so.6", "bin/sh", "etc/ld.so.conf.d/x.conf", "var/lib/dpkg/info/libc6.list"):
        (full / name).parent.mkdir(parents=True, exist_ok=True)
        (full / name).write_bytes(data if name.startswith(("etc/", "var/")) else b"")
    selection = Selection(full, slim, {"p": tree})
    assert selection.take(_PROGRAM)
    try:
        owners = Owners(full)
        assert all(problem.isprintable() or problem for problem in Needs(full, slim, selection, owners, {}).follow())
        owners.names(selection.chosen)
    except ToolError:
        pass
    os.unlink(tree / _PROGRAM)
