"""Follows what the chosen files of a runtime image need: the libraries of ELF files, the interpreters of scripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Set

from opam_sandbox.imaging.debian_files import Owners
from opam_sandbox.imaging.elf import Elf, read_elf
from opam_sandbox.imaging.selection import SWITCH, Selection
from opam_sandbox.sandbox import view_files

_BYTECODE_RUNTIME = tuple(f"{SWITCH}/{part}" for part in ("lib/ocaml/stublibs/", "lib/ocaml/ld.conf"))


class Needs:
    """`full`, `slim`: the views' roots; `selection` grows by what is needed; `owners` says which Debian package has a file."""

    def __init__(self, full: Path, slim: Path, selection: Selection, owners: Owners) -> None:
        self._full = full
        self._slim = slim
        self._selection = selection
        self._owners = owners
        self._problems: List[str] = []

    def follow(self) -> List[str]:
        """Take what the chosen files need, until nothing is missing; returns what cannot be had, a sentence each."""
        done: Set[str] = set()
        while self._selection.chosen - done:
            for path in sorted(self._selection.chosen - done):
                done.add(path)
                file = view_files.open_file(self._full, path, links=False)
                if file is None:
                    continue  # a link
                with file:
                    elf = read_elf(file)
                    file.seek(0)
                    line = file.readline(256)
                if elf is not None:
                    self._follow_elf(path, elf)
                else:
                    self._follow_script(path, line)
        return self._problems

    def _follow_script(self, path: str, line: bytes) -> None:
        """`line`: the file's first."""
        words = os.fsdecode(line[2:].strip()).split() if line.startswith(b"#!") else []
        if not words or self._exists(words[0]):
            return
        program = view_files.resolve(self._full, words[0])
        if not self._selection.take(words[0]):
            self._problems.append(f"/{path} is run by {words[0]}, which is in neither image")
        elif program and program not in self._selection.of_packages:
            self._problems.append(
                f"/{path} is run by {words[0]}, which is not in the slim base: add {self._owners.describe(program)} to its "
                "`packages`, or the file to `runtime_keep`"
            )
        elif words[0].startswith(f"/{SWITCH}/bin/ocamlrun"):
            # A bytecode program: its primitives lie in shared objects that the runtime finds by ld.conf.
            for name in self._selection.of_packages:
                if name.startswith(_BYTECODE_RUNTIME):
                    self._selection.take(name)

    def _follow_elf(self, path: str, elf: Elf) -> None:
        if elf.interpreter and not self._exists(elf.interpreter):
            self._problems.append(f"/{path} needs the dynamic linker {elf.interpreter}, which the slim base lacks")
        own = [part.replace("$ORIGIN", "/" + os.path.dirname(path)).replace("${ORIGIN}", "") for part in elf.paths]
        own = [os.path.normpath(part).lstrip("/") for part in own]
        for name in elf.needed:
            self._follow_library(path, name, own)

    def _follow_library(self, path: str, name: str, own: List[str]) -> None:
        """`own`: the directories that the ELF file at `path` itself names."""
        file = os.path.basename(name)
        places = [os.path.dirname(name)] if "/" in name else [*own, *_linker_directories(self._slim)]
        if any(self._exists(f"{place}/{file}") for place in places):
            return
        candidates = [f"{place}/{file}" for place in [*own, *_linker_directories(self._full)]]
        there = next((one for one in candidates if view_files.exists(self._full, one)), None)
        if there is None:
            self._problems.append(f"/{path} needs the library {name}, which is not in the full image either")
            return
        real = view_files.resolve(self._full, there) or there
        if real in self._selection.of_packages:
            self._selection.take(there)
        else:
            self._problems.append(
                f"/{path} needs the library {name}, which is not in the slim base: add {self._owners.describe(real)} to its "
                "`packages`"
            )

    def _exists(self, path: str) -> bool:
        """Whether a path is in the slim base or taken, links followed."""
        if view_files.exists(self._slim, path):
            return True
        real = view_files.resolve(self._full, path)
        return real is not None and real in self._selection.chosen


def _linker_directories(root: Path) -> List[str]:
    """Where the dynamic linker looks in a root: ld.so.conf's directories, then its own."""
    found: List[str] = []
    for name in view_files.names(root, "etc/ld.so.conf.d"):
        text = view_files.read_text(root, f"etc/ld.so.conf.d/{name}") if name.endswith(".conf") else None
        for line in (text or "").split("\n"):
            line = line.partition("#")[0].strip()
            if line.startswith("/"):
                found.append(line.strip("/"))
    return [*found, "lib", "usr/lib", "lib64", "usr/lib64"]
