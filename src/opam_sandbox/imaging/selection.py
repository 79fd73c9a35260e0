"""Chooses the files of a runtime image: by their places, by `keep`, and one by one."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from opam_sandbox import dpkg
from opam_sandbox.errors import ToolError
from opam_sandbox.imaging.requests import RuntimePackage
from opam_sandbox.layer import ownership
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.sandbox import view_files

SWITCH = os.fsdecode(ownership.SWITCH)

_MOST_LINKS = 40  # of the kernel, on the way to one file
_NO_DATA = (".opam-switch", "bin", "sbin", "doc", "man", "include", "lib")

# For editors and people only.
_NO_USE = (
    "share/doc/",
    "share/man/",
    "share/emacs/",
    "share/vim/",
    "share/merlin/",
    "share/ocaml/",
    "share/ocaml-config/",
    "doc/",
    "man/",
    "include/",
    "lib/pkgconfig/",
    "lib/cmake/",
    "lib/toplevel/",
    "lib/ocaml/",
)
# What compilers, linkers, package managers and people read of a library. All else in lib/ may be looked up by programs.
_OF_LIBRARIES = re.compile(
    r"(?:.*\.(?:a|o|la|pc|h|hh|hpp|c|cc|cpp|ml|mli|mll|mly|mlt|mlpack|mllib|mld|cm[a-z]*|odoc|odocl|owner)"
    r"|META(?:\..*)?|opam|dune-package|dune-project|dune|[Mm]akefile.*|ppx[^/]*\.exe)\Z",
    re.DOTALL,
)


def runtime_packages(packages: Sequence[RuntimePackage], roots: Sequence[str] = ()) -> Set[str]:
    """The names of the roots, and of what they depend on other than for builds, tests, documentation or development.

    roots: names; by default those of the packages that are roots."""
    by_name = {package["name"]: package for package in packages}
    found: Set[str] = set()
    waiting = list(roots) or [package["name"] for package in packages if package["root"]]
    while waiting:
        name = waiting.pop()
        if name in found or name not in by_name:
            continue
        found.add(name)
        items = opamfile.parse(by_name[name]["opam"], f"{name}: opam file")
        values = [item.value for item in items if item.name in ("depends", "depopts") and item.value is not None]
        not_needed = formulas.not_at_run_time(values)
        waiting += [other for other in by_name[name]["depends"] if other not in not_needed]
    return found


def wanted(path: str, root: bool) -> bool:
    """Whether a file of a package is kept by its place: `path` is below the switch, `root`: of a package asked for."""
    if path.startswith(_NO_USE):
        return False
    if path.startswith(("bin/", "sbin/")):
        return root
    return not path.startswith("lib/") or not _OF_LIBRARIES.match(os.path.basename(path))


class Selection:
    """`full`: the view of everything; `slim`: that of the slim base; `trees`: the unpacked layers of packages by name.

    All paths are relative to the roots of both views. `of_packages`: the files of all packages; `chosen`: those taken;
    `empty`: directories to make; `reached`: a link that led to a taken file, by the file; `outside`: directories of the base
    that taken links lead to, by link; `run_time`: the packages that the roots need at run time, `roots` among them;
    `library_places`: where OCaml's libraries are looked up, each with "/" at its end.
    """

    def __init__(self, full: Path, slim: Path, trees: Mapping[str, Path]) -> None:
        self._full = full
        self._slim = slim
        self._trees = trees
        self.of_packages: Set[str] = {path for tree in trees.values() for path in _files(tree)}
        self.library_places: Tuple[str, ...] = (f"{SWITCH}/lib/",)
        self.chosen: Set[str] = set()
        self.empty: Set[str] = set()
        self.reached: Dict[str, str] = {}
        self.outside: Dict[str, str] = {}
        self.roots: Set[str] = set()
        self.run_time: Set[str] = set()
        self._followed: Set[str] = set()
        self._endings: Set[Tuple[str, ...]] = set()
        self._taken: Set[Tuple[Tuple[str, ...], int]] = set()
        self._packages: Sequence[RuntimePackage] = ()
        self._left_out: Set[str] = set()

    def choose(self, packages: Sequence[RuntimePackage], keep: Sequence[str]) -> None:
        """Take what is kept by its place, and what the patterns `keep` name. Raises ToolError for one that names nothing.

        A pattern with "!" before it names what is not kept by its place.
        """
        self._packages = packages
        self.roots = {package["name"] for package in packages if package["root"]} & set(self._trees)
        self._left_out = {path for pattern in keep if pattern.startswith("!") for path in self._named(pattern)}
        self._add_packages(runtime_packages(packages))
        reached = dict(self.reached)
        for pattern in keep:
            if not pattern.startswith("!"):
                for path in self._named(pattern):
                    self.take(path)
                    # Who asks for a link asks for the program that it leads to.
                    reached.pop(_way(self._full, path)[1] or "", None)
        self.reached = reached

    def _add_packages(self, names: Set[str]) -> None:
        """Take what packages have at places that are kept."""
        new = names & set(self._trees) - self.run_time
        self.run_time |= new
        for name in sorted(new):
            for path in _files(self._trees[name]):
                below = path[len(SWITCH) + 1 :] if path.startswith(SWITCH + "/") else ""
                if below and wanted(below, name in self.roots) and path not in self._left_out:
                    self.take(path)
            self.empty.update(path for path in _empty_directories(self._trees[name]) if path not in self._left_out)
        for endings in sorted(self._endings):
            self.take_libraries(endings)

    def take_program(self, path: str) -> None:
        """Take a program, and what its package, and those that this depends on, have at places that are kept."""
        self.take(path)
        real = view_files.resolve(self._full, path)
        owner = next((name for name, tree in self._trees.items() if real and view_files.exists(tree, real)), None)
        if owner is not None and owner not in self.run_time:
            self._add_packages(runtime_packages(self._packages, [owner]))

    def files_of(self, name: str) -> Iterator[str]:
        """The files of a package."""
        return _files(self._trees[name])

    def take_libraries(self, endings: Tuple[str, ...]) -> None:
        """Take, where libraries are looked up, what the names of files end with: of the packages needed at run time,
        of the compiler's own directory, and the descriptions of all libraries, since each is looked up by those that need it."""
        if (endings, len(self.run_time)) in self._taken:
            return
        self._taken.add((endings, len(self.run_time)))
        self._endings.add(endings)
        own = {path for name in self.run_time for path in _files(self._trees[name])}
        for path in sorted(self.of_packages):
            if path.startswith(self.library_places) and path.endswith(endings):
                meta = os.path.basename(path) == "META"
                if meta or path in own or path.startswith(f"{SWITCH}/lib/ocaml/"):
                    self.take(path)

    def take_if_there(self, path: str) -> None:
        """Take a file of a package, if there is one of this name."""
        if path in self.of_packages:
            self.take(path)

    def take(self, path: str) -> bool:
        """Take a file with the links on the way to it; of a link to a directory, what is in there.

        False where the full image has none.
        """
        asked = self.real(path) or ""
        links, real = _way(self._full, path)
        for link in links:
            # A file that was asked for replaces that of the slim base; what merely is on the way does not.
            if link == asked or view_files.status(self._slim, link) is None:
                self.chosen.add(link)
        if real is None:
            return False
        if asked in links:
            if view_files.is_directory(self._full, real):
                return self._take_directory(asked, real)
            if real in self.chosen or view_files.exists(self._slim, real):
                return True
        found = view_files.status(self._full, real)
        if found is not None and stat.S_ISREG(found.st_mode) and real not in self.chosen:
            self.chosen.add(real)
            if asked in links:
                self.reached[real] = asked
        return True

    def _take_directory(self, link: str, real: str) -> bool:
        """Take what packages have in a directory that a taken link leads to."""
        if link in self._followed or f"{SWITCH}/".startswith(f"{real}/".lstrip("/")):
            return True  # a link upwards takes nothing along
        self._followed.add(link)
        below = [path for path in sorted(self.of_packages) if path.startswith(f"{real}/")]
        if not below and not view_files.exists(self._slim, real):
            if any(True for _ in view_files.walk(self._full, real)):
                self.outside[link] = real
            else:
                self.empty.add(real)
        for path in below:
            self.take(path)
        return True

    def _named(self, pattern: str) -> Sequence[str]:
        found = self._matches(pattern.lstrip("!").lstrip("/"))
        if not found:
            raise ToolError(f"runtime_keep: {pattern} matches no file of the image's packages and none of its base")
        return found

    def _matches(self, pattern: str) -> Sequence[str]:
        expression = re.compile(fnmatch.translate(pattern))
        found = [path for path in self.of_packages if expression.match(path)]
        # The build base's own files only when asked for by their whole name: walking it all takes long.
        real = None if found else self.real(pattern)
        if real is None:
            return found
        return list(view_files.walk(self._full, real)) if view_files.is_directory(self._full, real) else [real]

    def real(self, path: str) -> Optional[str]:
        """The name, which may be a link's, in its directory as it is without links; None if the full image has none."""
        directory = view_files.resolve(self._full, os.path.dirname(path))
        if directory is None:
            return None
        real = os.path.join(directory, os.path.basename(path))
        return real if view_files.status(self._full, real) is not None else None


def _way(root: Path, path: str) -> Tuple[List[str], Optional[str]]:
    """The links on the way to a path, each by its name without links, and where it ends; None where it ends nowhere."""
    links: List[str] = []
    here: List[str] = []
    waiting = _parts(path)
    while waiting:
        part = waiting.pop()
        if part == "..":
            here = here[:-1]
            continue
        name = "/".join([*here, part])
        found = view_files.status(root, name)
        if found is None or len(links) == _MOST_LINKS:
            return links, None
        if stat.S_ISLNK(found.st_mode):
            links.append(name)
            target = view_files.read_link(root, name)
            here = [] if target.startswith("/") else here
            waiting += _parts(target)
        else:
            here.append(part)
    return links, "/".join(here)


def _parts(path: str) -> List[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _files(tree: Path) -> Iterator[str]:
    """What is in a tree but directories and the records of package managers, as relative paths."""
    for path in view_files.walk(tree):
        if not path.startswith((f"{SWITCH}/.opam-switch/", f"{dpkg.DATABASE}/")):
            yield path


def _empty_directories(tree: Path) -> Iterator[str]:
    """Directories of a package, at places that are kept, in which there is nothing: programs write there."""
    waiting = [f"{SWITCH}/{name}" for name in view_files.names(tree, SWITCH, links=False) if name not in _NO_DATA]
    while waiting:
        path = waiting.pop()
        if view_files.is_directory(tree, path):
            names = view_files.names(tree, path, links=False)
            if not names:
                yield path
            waiting += [f"{path}/{name}" for name in names]
