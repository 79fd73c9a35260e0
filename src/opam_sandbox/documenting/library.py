"""Finds what each package has to document: in its layer, and for an OCaml of the base's own in the base."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple, Tuple

from opam_sandbox.documenting import pages, units
from opam_sandbox.documenting.requests import DocumentedPackage, DocumentRequest
from opam_sandbox.documenting.units import Unit
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.overlay import HOME

SWITCH = f"{HOME}/.opam/default"


class Documented(NamedTuple):
    """A package with its modules and pages. below: the packages that it was built over. libraries: sorted.

    own_pages: those that it did not bring, names (`PACKAGE/LIBRARY/index.mld`) and texts. library_pages: what odoc makes of those
    of libraries."""

    name: str
    below: Tuple[str, ...]
    units: Tuple[Unit, ...]
    libraries: Tuple[str, ...]
    own_pages: Dict[str, str]
    library_pages: Dict[str, str]

    @property
    def shown(self) -> Tuple[str, ...]:
        """What odoc makes of what has pages of its own, but for `library_pages`."""
        own = () if f"{self.name}/index.mld" not in self.own_pages else (f"{self.name}/page-index.odoc",)
        return (*own, *(unit.odoc for unit in self.units if not unit.is_hidden))

    @property
    def all_shown(self) -> Tuple[str, ...]:
        """The same with `library_pages`."""
        return (*self.shown, *self.library_pages.values())


def find(request: DocumentRequest, layers: Mapping[str, Layer], store: Store, base_library: str) -> List[Documented]:
    """The request's packages, by name. base_library: where the compiler has its own library, absolute."""
    base = store.get(layers[request["layers"][0]])
    found = []
    for package in sorted(request["packages"], key=lambda one: one["name"]):
        layer = layers[package["layer"]]
        own = _of_layer(package["name"], store.get(layer))
        if package["name"] == request["base_library"]:
            own += _of_base(package["name"], base, base_library)
        below = tuple(sorted({one.partition(".")[0] for one in layer.opam.get("below", ())} - {package["name"]}))
        found.append(describe(package, below, own))
    return found


def describe(package: DocumentedPackage, below: Tuple[str, ...], own: Iterable[Unit]) -> Documented:
    """The package with its modules and pages, and with the pages that it lacks."""
    # Two directories may be one library to those who look for it; of two modules of one name the first is taken.
    by_place: Dict[str, Unit] = {}
    for unit in own:
        by_place.setdefault(unit.odoc, unit)
    name = package["name"]
    libraries: Dict[str, List[str]] = {}
    for unit in by_place.values():
        if not unit.is_page:
            listed = libraries.setdefault(unit.library, [])
            if not unit.is_hidden:
                listed.append(unit.module)
    libraries = {library: sorted(libraries[library]) for library in sorted(libraries)}
    library_pages = {
        library: f"{name}/{library}/page-index.odoc"
        for library in libraries
        if f"{name}/{library}/page-index.odoc" not in by_place
    }
    own_pages = {
        f"{name}/{library}/index.mld": pages.library_page(library, libraries[library]) for library in library_pages
    }
    if f"{name}/page-index.odoc" not in by_place:
        own_pages[f"{name}/index.mld"] = pages.package_page(package, libraries)
    return Documented(name, below, tuple(by_place.values()), tuple(libraries), own_pages, library_pages)


def _of_layer(name: str, root: Path) -> List[Unit]:
    library, documents = f"{SWITCH}/lib", f"{SWITCH}/doc/{name}"
    return [
        *units.modules(name, f"/{library}", _names(root, library)),
        *units.pages(name, f"/{documents}", _names(root, documents)),
    ]


def _of_base(name: str, root: Path, directory: str) -> List[Unit]:
    """The modules of an OCaml that is in no layer of a package's."""
    found = view_files.resolve(root, directory.lstrip("/")) if directory.startswith("/") else None
    if not found or found == SWITCH or found.startswith(f"{SWITCH}/"):
        return []
    return units.modules(name, f"/{found}", _names(root, found), prefix="ocaml")


def _names(root: Path, directory: str) -> List[str]:
    if not view_files.is_directory(root, directory):
        return []
    return [name[len(directory) + 1 :] for name in view_files.walk(root, directory)]
