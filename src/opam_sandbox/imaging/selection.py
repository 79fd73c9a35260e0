"""Chooses the files of a runtime image: by their places, by `keep`, and one by one."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence, Set

from opam_sandbox import dpkg
from opam_sandbox.errors import ToolError
from opam_sandbox.imaging.requests import RuntimePackage
from opam_sandbox.layer import ownership
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.sandbox import view_files

SWITCH = os.fsdecode(ownership.SWITCH)

_SHARED_OBJECT = re.compile(r"\.so(?:\.[0-9.]+)?\Z")
# For editors and people only.
_NO_USE = (
    "share/doc/",
    "share/man/",
    "share/emacs/",
    "share/vim/",
    "share/merlin/",
    "share/ocaml/",
    "share/ocaml-config/",
)


def runtime_packages(packages: Sequence[RuntimePackage]) -> Set[str]:
    """The names of the roots, and of what they depend on other than for builds, tests, documentation or development."""
    by_name = {package["name"]: package for package in packages}
    found: Set[str] = set()
    waiting = [package["name"] for package in packages if package["root"]]
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
    if path.startswith(("share/", "etc/")):
        return True
    if path.startswith(("bin/", "sbin/")):
        return root
    return path.startswith("lib/") and not path.startswith("lib/ocaml/") and bool(_SHARED_OBJECT.search(path))


class Selection:
    """`full`: the view of everything; `slim`: that of the slim base; `trees`: the unpacked layers of packages by name.

    All paths are relative to the roots of both views. `of_packages`: the files of all packages; `chosen`: those taken.
    """

    def __init__(self, full: Path, slim: Path, trees: Mapping[str, Path]) -> None:
        self._full = full
        self._slim = slim
        self._trees = trees
        self.of_packages: Set[str] = {path for tree in trees.values() for path in _files(tree)}
        self.chosen: Set[str] = set()

    def choose(self, packages: Sequence[RuntimePackage], keep: Sequence[str]) -> None:
        """Take what is kept by its place, and what the patterns `keep` name. Raises ToolError for one that names nothing."""
        roots = {package["name"] for package in packages if package["root"]}
        for name in sorted(runtime_packages(packages) & set(self._trees)):
            for path in _files(self._trees[name]):
                if path.startswith(SWITCH + "/") and wanted(path[len(SWITCH) + 1 :], name in roots):
                    self.take(path)
        for pattern in keep:
            found = self._matches(pattern.lstrip("/"))
            if not found:
                raise ToolError(f"runtime_keep: {pattern} matches no file of the image's packages and none of its base")
            for path in found:
                self.take(path)

    def _matches(self, pattern: str) -> Sequence[str]:
        expression = re.compile(fnmatch.translate(pattern))
        found = [path for path in self.of_packages if expression.match(path)]
        # The build base's own files only when asked for by their whole name: walking it all takes long.
        real = None if found else self._real(pattern)
        if real is None:
            return found
        return list(view_files.walk(self._full, real)) if view_files.is_directory(self._full, real) else [real]

    def take(self, path: str) -> bool:
        """Take a file and, for a link, what it leads to. False where there is none in the full image."""
        while True:
            real = self._real(path)
            if real is None:
                return False
            if real in self.chosen:
                return True
            found = view_files.status(self._full, real)
            if found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                return True
            self.chosen.add(real)
            if not stat.S_ISLNK(found.st_mode):
                return True
            path = os.path.join("/" + os.path.dirname(real), view_files.read_link(self._full, real))
            if view_files.exists(self._slim, path):
                return True

    def _real(self, path: str) -> Optional[str]:
        """The name, which may be a link's, in its directory as it is without links; None if the full image has none."""
        directory = view_files.resolve(self._full, os.path.dirname(path))
        if directory is None:
            return None
        real = os.path.join(directory, os.path.basename(path))
        return real if view_files.status(self._full, real) is not None else None


def _files(tree: Path) -> Iterator[str]:
    """What is in a tree but directories and the records of package managers, as relative paths."""
    for path in view_files.walk(tree):
        if not path.startswith((f"{SWITCH}/.opam-switch/", f"{dpkg.DATABASE}/")):
            yield path
