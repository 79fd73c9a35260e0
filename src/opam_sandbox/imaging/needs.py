"""Follows what the chosen files of a runtime image need: libraries, interpreters, plugins, and files that programs name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Mapping, Sequence, Set

from opam_sandbox.elf import read_elf
from opam_sandbox.imaging import libraries, plugins, scripts, unseen
from opam_sandbox.imaging.bytecode import read_bytecode
from opam_sandbox.imaging.debian_files import Owners
from opam_sandbox.imaging.search import DEBIAN, Base, Search
from opam_sandbox.imaging.selection import SWITCH, Selection
from opam_sandbox.imaging.shebang import LONGEST, read_shebang
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox import view_files


class Needs:
    """`full`, `slim`: the views' roots; `selection` grows by what is needed; `owners` says which Debian package has a file.
    `env`: the image's environment; `base`: what kind of base the slim one is."""

    def __init__(
        self, full: Path, slim: Path, selection: Selection, owners: Owners, env: Mapping[str, str], base: Base = DEBIAN
    ) -> None:
        self._search = Search(full, slim, selection, owners, env, base)

    def notes(self, layers: Sequence[Layer]) -> List[str]:
        """After `follow`: what nobody can see from outside, a sentence each. `layers`: the full image's."""
        return [*unseen.notes(self._search), *unseen.left_out_debs(layers, self._search)]

    def follow(self) -> List[str]:
        """Take what the chosen files need, until nothing is missing; returns what cannot be had, a sentence each."""
        search, selection = self._search, self._search.selection
        done: Set[str] = set()
        while selection.chosen - done:
            for path in sorted(selection.chosen - done):
                done.add(path)
                self._follow_file(path)
        for link, directory in sorted(selection.outside.items()):
            if any(path.startswith(f"{directory}/") for path in selection.chosen):
                continue  # `runtime_keep` says what of it is wanted
            search.problem(
                f"/{link} is a link to the directory /{directory}, which is not in the slim base: "
                f"{search.base.remedy(search.owners.describe_directory(directory))}, or add the directory to `runtime_keep`"
            )
        return search.problems

    def _follow_file(self, path: str) -> None:
        search = self._search
        file = view_files.open_file(search.full, path, links=False)
        if file is None:
            return  # a link
        with file:
            elf = read_elf(file)
            file.seek(0)
            shebang = read_shebang(file.read(LONGEST))
            bytecode = None if elf is None and shebang is None else read_bytecode(file)
            if elf is not None and not elf.interpreter and bytecode is None:
                libraries.follow_elf(search, path, elf)
                unseen.follow_names(search, path, file, elf)
                return
            if elf is None and shebang is None:
                return
            self._check_link(path)
            if elf is not None:
                libraries.follow_elf(search, path, elf)
                unseen.follow_names(search, path, file, elf)
            elif shebang is not None:
                scripts.follow(search, path, shebang)
            if bytecode is not None:
                if bytecode.runtime and not search.has(bytecode.runtime):
                    search.take_program(bytecode.runtime, f"/{path} is run by {bytecode.runtime}")
                libraries.follow_bytecode(search, path, bytecode)
            if elf is not None or bytecode is not None:
                plugins.follow(search, file, native=bytecode is None)

    def _check_link(self, path: str) -> None:
        """A program of a Debian package that a link leads to is not the whole of that package."""
        search = self._search
        link = search.selection.reached.get(path)
        # Some libraries can be run as well.
        if (
            link
            and ".so" not in os.path.basename(path)
            and not path.startswith(SWITCH + "/")
            and search.owners.owned(path)
        ):
            search.problem(
                f"/{link} is a link to /{path}, which is not in the slim base: "
                f"{search.base.remedy(search.owners.describe(path))}, or add the file and what it needs to `runtime_keep`"
            )
