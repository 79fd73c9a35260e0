"""What a search for the needs of a runtime image's files shares: both images, what is taken, and what is to be said."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Set, Tuple

from opam_sandbox.imaging.debian_files import Owners
from opam_sandbox.imaging.release import read_release
from opam_sandbox.imaging.selection import SWITCH, Selection
from opam_sandbox.sandbox import view_files

# Where OCaml's findlib and its toplevel look, before the switch's own directory.
_LIBRARY_VARIABLES = ("OCAMLPATH", "OCAMLTOP_INCLUDE_PATH")


@dataclass(frozen=True)
class Base:
    """What kind of base the slim one is. has_ldconfig: whether it can be told where libraries are; other_release: both releases,
    in words, where it is not of the release that the packages were built in; foreign: it was made by others, as an image."""

    has_ldconfig: bool = True
    other_release: Tuple[str, str] = ("", "")
    foreign: bool = False

    @classmethod
    def of(cls, full: Path, slim: Path, foreign: bool) -> "Base":
        """Of these roots."""
        if not foreign:
            return DEBIAN
        built, here = read_release(full), read_release(slim)
        # What is of no release that has a number may be of any day.
        same = built[:2] == here[:2] and built.id and built.version
        return cls(view_files.exists(slim, "sbin/ldconfig"), ("", "") if same else (here.shown, built.shown), foreign)

    def remedy(self, owner: str) -> str:
        """How to have in it what `owner`, a Debian package in words, brings."""
        return f"take a base that has what {owner} brings" if self.foreign else f"add {owner} to its `packages`"


# As a `debian_rootfs` of the packages' suite is.
DEBIAN = Base()


class Search:
    """`full`, `slim`: the views' roots. `env`: the image's environment. `problems`: what cannot be had, a sentence each.

    `scripts`: those that are kept; `named`: paths that the image lacks, with the programs that name them.
    """

    def __init__(
        self,
        full: Path,
        slim: Path,
        selection: Selection,
        owners: Owners,
        env: Mapping[str, str],
        base: Base = DEBIAN,
    ) -> None:
        self.full = full
        self.slim = slim
        self.selection = selection
        self.owners = owners
        self.env = env
        self.base = base
        for variable in _LIBRARY_VARIABLES:
            places = (view_files.resolve(full, place) for place in self.directories(variable))
            selection.library_places += tuple(f"{place}/" for place in places if place)
        self.problems: List[str] = []
        self.scripts: List[str] = []
        self.named: Dict[str, Set[str]] = {}

    def directories(self, variable: str) -> List[str]:
        """Those that a variable of the image names, with ":" between; what depends on the current directory is none."""
        return [place for place in self.env.get(variable, "").split(":") if place.startswith("/")]

    def has(self, path: str) -> bool:
        """Whether a path is in the slim base or taken, links followed."""
        if view_files.exists(self.slim, path):
            return True
        real = view_files.resolve(self.full, path)
        return real is not None and real in self.selection.chosen

    def is_ours(self, path: str) -> bool:
        """Whether what a path of the full image leads to was made by a package's build, and is in no Debian package."""
        real = view_files.resolve(self.full, path)
        return real is not None and real in self.selection.of_packages and not self.owners.owned(real)

    def is_program(self, root: Path, path: str) -> bool:
        """Whether a path is an executable file in one of the views, links followed."""
        real = view_files.resolve(root, path)
        found = None if real is None else view_files.status(root, real)
        return found is not None and stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o111)

    def problem(self, text: str) -> None:
        """What cannot be had, once."""
        if text not in self.problems:
            self.problems.append(text)

    def take_program(self, path: str, text: str) -> None:
        """Take an executable of the full image that the slim base lacks. `text`: who needs it, the start of a sentence.

        A Debian package's is not taken: it has files of its own that it reads when it runs, and none of them names it.
        """
        selection = self.selection
        real = view_files.resolve(self.full, path)
        if real is None:
            self.problem(f"{text}, which is in neither image: {WAY_OUT}")
        elif real in selection.chosen:
            return
        elif not real.startswith(SWITCH + "/") and (real not in selection.of_packages or self.owners.owned(real)):
            # The package that has the name: python3 is a link of one package to a program of another.
            named = selection.real(path) or real
            owner = self.owners.describe(named if self.owners.owned(named) else real)
            self.problem(
                f"{text}, which is not in the slim base: {self.base.remedy(owner)}, or add the file, with what it needs, to "
                "`runtime_keep`"
            )
        else:
            selection.take_program(path)


WAY_OUT = 'if nobody runs the file, leave it out, with its path and a "!" before it in `runtime_keep`'
