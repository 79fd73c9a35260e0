"""The requests of this part."""

from typing import List, TypedDict


class DocumentedPackage(TypedDict):
    """A package whose documentation is made. layer: the directory of its layer, one of the request's `layers`."""

    name: str
    version: str
    synopsis: str
    layer: str


class DocumentRequest(TypedDict):
    """`document`: the layers are those of an image, bottom first, its state the last; one of them brings the program odoc.

    title: of the first page. base_library: the package that an OCaml of the base's own is documented with, "" where none stands
    for it."""

    store: str
    layers: List[str]
    title: str
    packages: List[DocumentedPackage]
    base_library: str
