"""Makes ready what opam needs to build one package: a repository, a switch with its dependencies, and its archives.

Everything that a package asks opam for (`%{_:depends}%`, `%{_:build-id}%`, `%{_:hash}%`, `%{dep:opamfile}%` ...) comes from opam
files, so opam is shown the real ones: the package's, and its dependencies' as their layers have them. Still there is
nothing to decide: the repository has one version of each, and the solver that opam is given always has the same answer, which
is what is installed and the package. Of the archives, opam finds copies where it keeps downloads, and verifies them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

from opam_sandbox.building.requests import Source, TreeFile
from opam_sandbox.errors import RequestError
from opam_sandbox.opam.package import OpamPackage, metadata
from opam_sandbox.opam.switch import OPAM_ROOT, REPO_FILE, SWITCH_STATE_DIR, switch_state
from opam_sandbox.request import check_file, safe_name
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View

PACKAGES = f"{SWITCH_STATE_DIR}/packages"
_SOLVER = "opam-solver"
# What `opam install` is told: the program, and its arguments as opam has them (its input and output are files).
SOLVER = f"/bin/sh /dev/{_SOLVER} %{{input}}% %{{output}}%"

# Where this process's private directories are shown inside.
_REPOSITORY = f"{OPAM_ROOT}/repo/default"
_DOWNLOADS = f"{OPAM_ROOT}/download-cache"

# opam writes the packages that there are, and what is asked for, as paragraphs (CUDF). The answer: those that are installed, and
# the one that is asked for by name.
_SOLVER_SCRIPT = r"""sed -n '/./{
H
$!d
}
x
/\ninstalled: true\|\nopam-query: 1/s/.*\n\(package: [^\n]*\)\n\(version: [^\n]*\).*/\1\n\2\ninstalled: true\n/p' "$1" > "$2"
"""

# A package of which opam only has to know that there is one: a `post` dependency, which is not installed yet.
_STANDS_FOR = b'opam-version: "2.0"\n'

_File = Union[Tuple[str, bytes], Tuple[str, bytes, int]]


def prepare(
    view: View,
    package: OpamPackage,
    sources: Sequence[Source],
    tree: Optional[Sequence[TreeFile]],
    installed: Sequence[str],
    later: Sequence[str],
) -> None:
    """Change the view, and what commands see of this process's directories, so that opam can build the package offline.

    tree: files of the monorepo that are its source; None where `sources` are. installed: `name.version` of all packages below it.
    later: the same of packages that others need beside them (`post`).
    Raises RequestError where a layer has no opam file of its package, or a source is not the one that was asked for.
    """
    # A directory or two for each package below: in memory, where a disk takes a millisecond for each.
    repository, downloads = view.overlay.scratch_files / "repository", view.scratch / "downloads"
    _write_downloads(downloads, package, sources)
    opam = package.opam if tree is None else _write_tree(downloads, package, tree)
    files: List[_File] = [("repo", REPO_FILE.encode()), *metadata(package, _place(package.title), opam)]
    files += [(f"{_place(title)}/opam", _opam_file(view.root, title)) for title in installed]
    files += [(f"{_place(safe_name(title))}/opam", _STANDS_FOR) for title in later]
    _write_below(repository, files)
    view.write_files(
        [
            (f"{SWITCH_STATE_DIR}/switch-state", switch_state(installed, ()).encode()),
            (f"{_REPOSITORY}/.mount", b""),
            (f"{_DOWNLOADS}/.mount", b""),
        ]
    )
    view.overlay.bind_tree(repository, _REPOSITORY)
    view.overlay.bind_tree(downloads, _DOWNLOADS)
    view.overlay.show_in_dev(_SOLVER, _SOLVER_SCRIPT.encode())


def put_opam_file_back(view: View, package: OpamPackage) -> None:
    """Have the switch know the package by its own opam file, not by opam's copy of it (in other words, with other spaces)."""
    name = f"{PACKAGES}/{package.title}/opam"
    view_files.write(view.overlay.upper, name, package.opam.encode("utf-8", "surrogateescape"), owner=view.overlay.opam)


def _place(title: str) -> str:
    return f"packages/{title.partition('.')[0]}/{title}"


def _opam_file(root: Path, title: str) -> bytes:
    found = view_files.read(root, f"{PACKAGES}/{title}/opam")
    if found is None:
        raise RequestError(f"the layer of {title} lacks its opam file")
    return found


def _write_downloads(downloads: Path, package: OpamPackage, sources: Sequence[Source]) -> None:
    """Each source under all the checksums that the opam file has of it: opam looks it up by any of these."""
    downloads.mkdir()
    if not sources:
        return
    from opam_sandbox.building.checksums import checksums  # to read opam files takes a tenth of a small package's time

    known = checksums(package)
    for source in sources:
        first = _download(downloads, "sha256", source["sha256"])
        if not first.exists():
            # A copy, not a hard link to the input: Pants hands large inputs out as links into its own store.
            with open(first, "wb") as copy:
                check_file(source["file"], source["sha256"], copy.write)
        for kind, value in known.get(source["name"], ()):
            path = _download(downloads, kind, value)
            if not path.exists():
                os.link(first, path)


def _write_tree(downloads: Path, package: OpamPackage, tree: Sequence[TreeFile]) -> str:
    """The files as an archive among the sources. Returns the opam file that names it."""
    from opam_sandbox.building import project_tree  # most packages are none of the monorepo's

    packed = downloads / "packed"
    sha256 = project_tree.pack(package, tree, packed)
    os.rename(packed, _download(downloads, "sha256", sha256))
    return project_tree.with_source(package.opam, sha256)


def _download(downloads: Path, kind: str, value: str) -> Path:
    path = downloads / safe_name(kind) / safe_name(value)[:2] / value
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_below(directory: Path, files: Sequence[_File]) -> None:
    # Not by Path, which takes longer for the two directories and the file of a package than the kernel.
    directory.mkdir()
    made = {""}
    for given, content, *mode in files:
        name = os.path.normpath(given)
        missing, parent = [], os.path.dirname(name)
        while parent not in made:
            made.add(parent)
            missing.append(parent)
            parent = os.path.dirname(parent)
        for one in reversed(missing):
            os.mkdir(f"{directory}/{one}")
        with open(f"{directory}/{name}", "wb", buffering=0) as file:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            os.fchmod(file.fileno(), mode[0] if mode else 0o644)
