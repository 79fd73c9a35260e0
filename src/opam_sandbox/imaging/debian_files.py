"""Which Debian packages the files of a view belong to, and what a runtime image says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, Iterator, Optional, Sequence, Set, Tuple

from opam_sandbox import dpkg
from opam_sandbox.imaging.selection import SWITCH
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox import view_files

# Where files of Debian packages that dpkg did not install are said to be from: scanners of images read these.
STATUS_D = "var/lib/dpkg/status.d"


class Owners:
    """The Debian packages that own the files of the view `root`, by dpkg's lists, which are read when first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_path: Optional[Dict[str, str]] = None

    def describe(self, path: str) -> str:
        """The owner of a path, in words."""
        name = self._read().get(path, "")
        return f"the Debian package {name}" if name else "the Debian package that has it"

    def owned(self, path: str) -> bool:
        """Whether a path is a Debian package's."""
        return path in self._read()

    def describe_directory(self, path: str) -> str:
        """The owner of the first file below a directory, in words."""
        return self.describe(min((one for one in self._read() if one.startswith(f"{path}/")), default=path))

    def all(self, paths: Iterable[str]) -> Iterator[Tuple[str, str]]:
        """Those of these paths that are Debian packages', each with its package."""
        owners = self._read()
        return ((path, owners[path]) for path in paths if path in owners)

    def names(self, paths: Iterable[str]) -> Set[str]:
        """The packages that own some of these paths."""
        owners = self._read()
        return {owners[path] for path in paths if path in owners and not path.startswith(SWITCH)}

    def _read(self) -> Dict[str, str]:
        if self._by_path is None:
            self._by_path = {}
            directory = f"{dpkg.DATABASE}/info"
            for name in view_files.names(self._root, directory):
                if name.endswith(".list"):
                    self._add(name[: -len(".list")].partition(":")[0], f"{directory}/{name}")
        return self._by_path

    def _add(self, package: str, listed: str) -> None:
        assert self._by_path is not None
        for line in (view_files.read_text(self._root, listed) or "").split("\n"):
            path = line.lstrip("/")
            self._by_path.setdefault(path, package)
            if path.startswith(("lib/", "bin/", "sbin/", "lib64/")):  # links to what is below /usr
                self._by_path.setdefault(f"usr/{path}", package)


def write_status(full: Path, slim: Path, layers: Sequence[Layer], named: Set[str]) -> Dict[str, str]:
    """Say in `slim` which Debian packages single files are from, where image scanners look for it.

    `named`: the packages' names. Returns their paragraphs by `name:architecture`, but for those that `slim` has installed.
    """
    status = dpkg.read_status(full)
    for layer in layers:
        status.update(layer.dpkg.get("status", {}))
    present = {key.partition(":")[0] for key in dpkg.read_status(slim)}
    found: Dict[str, str] = {}
    for key, paragraph in sorted(status.items()):
        name = key.partition(":")[0]
        if name in named and name not in present:
            found[key] = paragraph
            view_files.write(slim, f"{STATUS_D}/{name}", (paragraph + "\n").encode("utf-8", "surrogateescape"))
    return found
