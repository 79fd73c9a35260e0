"""What there is to document: the compiled interfaces and the pages that packages installed.

A library is a directory of modules. It has the name that findlib has for it where packages keep to the usual places:
`lib/lwt/unix` is `lwt.unix`; of OCaml's own directory, `lib/ocaml/unix` is `unix`, and the directory itself is `stdlib`.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, List, NamedTuple, Tuple

# What OCaml's libraries are called that lie in the compiler's own directory.
STDLIB = "stdlib"

# The interface with its comments, the implementation with them, the interface without: the first that is there is taken.
_KINDS = (".cmti", ".cmt", ".cmi")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_']*")
_PLACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_PAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Unit(NamedTuple):
    """A module, or a page (`is_page`) that a package wrote. file: absolute, in the view. place: the directories of its page, from
    the top."""

    package: str
    library: str
    stem: str
    file: str
    is_page: bool = False

    @property
    def module(self) -> str:
        """The module's name."""
        return self.stem[:1].upper() + self.stem[1:]

    @property
    def is_hidden(self) -> bool:
        """Whether it is a part of another module's only, by the convention that dune and odoc have."""
        return not self.is_page and "__" in self.stem

    @property
    def parent(self) -> str:
        """The directories that it stands in, from the top."""
        return f"{self.package}/{self.library}" if self.library else self.package

    @property
    def odoc(self) -> str:
        """What odoc makes of it, below the directory of all that it makes. A module's file begins with a small letter there."""
        name = f"page-{self.stem}" if self.is_page else self.stem[:1].lower() + self.stem[1:]
        return f"{self.parent}/{name}.odoc"


def library_name(directory: str) -> str:
    """The library of a directory below the switch's `lib`; "" for one that is nobody's library."""
    parts = directory.split("/")
    if not all(_PLACE.fullmatch(part) for part in parts) or "__private__" in parts:
        return ""
    if parts[0] == "ocaml":
        parts = parts[1:] or [STDLIB]
    return ".".join(parts)


def modules(package: str, top: str, names: Iterable[str], prefix: str = "") -> List[Unit]:
    """The modules among files, one for each name in a directory. names: below `top` (absolute). prefix: what `top` is, below the
    switch's `lib`, if that is another directory."""
    found: Dict[Tuple[str, str], Tuple[int, str]] = {}
    for name in names:
        directory, _, base = name.rpartition("/")
        kind = next((number for number, ending in enumerate(_KINDS) if base.endswith(ending)), None)
        if kind is None:
            continue
        stem = base[: -len(_KINDS[kind])]
        library = library_name("/".join(part for part in (prefix, directory) if part))
        if library and _MODULE.fullmatch(stem):
            key = (library, stem)
            found[key] = min(found.get(key, (kind, name)), (kind, name))
    return [Unit(package, library, stem, f"{top}/{name}") for (library, stem), (_, name) in sorted(found.items())]


def pages(package: str, top: str, names: Iterable[str]) -> List[Unit]:
    """The pages among files: what lies below `odoc-pages`. names: below `top`, the package's `doc` directory (absolute)."""
    found = []
    for name in sorted(names):
        parts = name.split("/")
        if parts[0] != "odoc-pages" or not name.endswith(".mld"):
            continue
        *above, base = parts[1:]
        stem = base[: -len(".mld")]
        if all(_PAGE.fullmatch(part) for part in (*above, stem)):
            found.append(Unit(package, "/".join(above), stem, f"{top}/{name}", is_page=True))
    return found
