"""The field `pin-depends` of the project's own opam files. A pin's source is fetched by nobody here.

A pin holds if a repository has the very package, made from that source, or if it names the directory of a project whose package
is built here.
"""

from __future__ import annotations

import posixpath
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.project_files import ProjectFile, text_in_repository
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.opam import formulas, opamfile
from opam_sandbox.opam.opamfile import Item, ListOf, Str

# The field of a repository's package that says for which `pin-depends` it stands, where its own `url` is another one.
PIN_FIELD = "x-pinned-url"
_FILE = "file://"


def pin_constraints(files: Sequence[ProjectFile], packages: Packages, root: str = "") -> List[str]:
    """Constraints `NAME=VERSION` for all `pin-depends`, also those of pinned packages. root: see `SolveRequest`.

    Raises ToolError for one that does not hold.
    """
    own = {file.name: file for file in files}
    chosen: Dict[str, Tuple[str, str, str]] = {}
    pinning: Mapping[str, ProjectFile] = {file.where: file for file in files}
    todo = [(file.where, pin) for file in files for pin in _pins(file.items, file.where)]
    while todo:
        where, (title, url) = todo.pop()
        name, _, version = title.partition(".")
        if name in own:
            _check_own(where, title, url, own[name], pinning.get(where), root)
            continue
        first = chosen.setdefault(name, (version, url, where))
        if first[:2] != (version, url):
            raise ToolError(
                f"{where}: the field `pin-depends` pins {title} to {url}, but {first[2]} pins {name}.{first[0]} to {first[1]}"
            )
        if first[2] != where:
            continue
        todo += _pins_of_pinned(where, title, url, packages)
    return [f"{name}={version}" for name, (version, _, _) in sorted(chosen.items())]


def _check_own(where: str, title: str, url: str, file: ProjectFile, pinning: Optional[ProjectFile], root: str) -> None:
    """Raise ToolError for the pin of a package of the project, unless it is to the directory of that package."""
    problem = (
        f"{where}: the field `pin-depends` pins {title} to {url}, but {file.where} is an opam file of that package: "
    )
    if not file.build:
        raise ToolError(f"{problem}remove one of them")
    here = file.directory or "."
    if pinning is None or _in_build_root(url, pinning, root) != here:
        raise ToolError(f"{problem}pin its directory, {here}, by a path relative to that of {where}, or remove the pin")
    version = title.partition(".")[2]
    if version != file.version:
        raise ToolError(
            f'{problem}its version is {file.version} here: write that into the pin, or the field `version: "{version}"` into '
            "the opam file"
        )


def _in_build_root(url: str, pinning: ProjectFile, root: str) -> str:
    """The directory of the build root that a URL names, in its shortest form; "" for any other URL."""
    path = url[len(_FILE) :] if url.startswith(_FILE) else url
    if "://" in path or path.startswith(("git+", "hg+", "darcs+")) or not path:
        return ""
    if path.startswith("/"):
        path, top = posixpath.normpath(path), posixpath.normpath(root) if root else ""
        if not top or not f"{path}/".startswith(f"{top}/"):
            return ""
        return posixpath.relpath(path, top)
    short = posixpath.normpath(posixpath.join(pinning.directory, path))
    return "" if short == ".." or short.startswith("../") else short


def _pins_of_pinned(where: str, title: str, url: str, packages: Packages) -> List[Tuple[str, Tuple[str, str]]]:
    name, _, version = title.partition(".")
    has = version in packages.versions(name)
    items = opamfile.parse(text_in_repository(packages, name, version), title) if has else ()
    urls = [part for item in items if item.name == "url" for part in item.items if part.name in ("src", "archive")]
    known = {
        text
        for item in [*urls, *(item for item in items if item.name == PIN_FIELD)]
        for text in formulas.strings(item.value)
    }
    if url not in known:
        there = f"the {title} of the repositories is another one" if has else f"no repository has {title}"
        raise ToolError(
            f"{where}: the field `pin-depends` pins {title} to {url}, and {there}. Pins are not fetched: put a package {title} "
            "with this source, as an archive with its checksum, into an overlay repository of [opam].repositories. If its own "
            f'`url` is another one, as for git, add the field `{PIN_FIELD}: "{url}"` to its opam file'
        )
    return [(title, pin) for pin in _pins(items, title)]


def _pins(items: Sequence[Item], where: str) -> List[Tuple[str, str]]:
    """(NAME.VERSION, URL) of a field `pin-depends`."""
    value = next((item.value for item in items if item.name == "pin-depends"), None)
    if value is None:
        return []
    pairs = value.items if isinstance(value, ListOf) else ()
    if pairs and all(isinstance(one, Str) for one in pairs):
        pairs = (value,)
    found: List[Tuple[str, str]] = []
    for pair in pairs:
        texts = [one.value for one in pair.items if isinstance(one, Str)] if isinstance(pair, ListOf) else []
        if len(texts) != 2 or not isinstance(pair, ListOf) or len(pair.items) != 2 or "." not in texts[0].strip("."):
            raise ToolError(f'{where}: the field `pin-depends` is not a list of ["NAME.VERSION" "URL"]')
        found.append((texts[0], texts[1]))
    if not isinstance(value, ListOf):
        raise ToolError(f'{where}: the field `pin-depends` is not a list of ["NAME.VERSION" "URL"]')
    return found
