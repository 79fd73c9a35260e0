"""What goes along with an image: documents that are about it, each attached by a manifest of its own (OCI 1.1 referrers).

This is the one list of them: a layout holds what it says, and `publish` pushes what a layout holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterable

from opam_oci.images.sbom_documents import FORMATS, Contents, encode

if TYPE_CHECKING:
    from opam_oci.images.manifest import ImageContent


@dataclass(frozen=True)
class Document:
    """A document about an image. `path`: its title, and what it is called where it lies beside the image; `media_type`: its
    own, and the artifact type of the manifest that attaches it."""

    path: str
    media_type: str
    text: bytes


def sbom_documents(content: ImageContent, image: str) -> Iterable[Document]:
    """The SBOM in each format, none for an image without one."""
    if content.sbom is None:
        return
    contents = Contents(content.sbom.name, image, content.created, content.sbom.components)
    for form in FORMATS:
        yield Document(f"sbom.{form.suffix}", form.media_type, encode(form.document(contents)))


def _attached_sboms(content: ImageContent, image: str) -> Iterable[Document]:
    return sbom_documents(content, image) if content.sbom is not None and content.sbom.attach else ()


# Each says what it has of an image whose manifest has the digest `image` ("sha256:..."), in an order that does not change.
SOURCES: tuple["Callable[[ImageContent, str], Iterable[Document]]", ...] = (_attached_sboms,)


def attached_documents(content: ImageContent, image: str) -> list[Document]:
    """All documents that are attached to an image. `image`: the digest of its manifest."""
    return [document for source in SOURCES for document in source(content, image)]
