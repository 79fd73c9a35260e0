"""What goes along with an image: documents that are about it, beside it, and attached by manifests of their own (OCI 1.1
referrers).

This is the one list of them: a layout holds what it says, and `publish` pushes what a layout holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterable

from opam_oci.images import provenance_document
from opam_oci.images.sbom_documents import FORMATS, Contents, encode

if TYPE_CHECKING:
    from opam_oci.images.manifest import ImageContent


@dataclass(frozen=True)
class Document:
    """A document about an image. `path`: its title, and what it is called where it lies beside the image; `media_type`: its
    own, and the artifact type of the manifest that attaches it, if it is `attached`; `predicate`: in-toto's type of what it
    says, "" of what is no statement of in-toto's."""

    path: str
    media_type: str
    text: bytes
    attached: bool
    predicate: str = ""


def _sboms(content: ImageContent, image: str) -> Iterable[Document]:
    """The SBOM in each format."""
    if content.sbom is None:
        return
    contents = Contents(content.sbom.name, image, content.created, content.sbom.components)
    for form in FORMATS:
        text = encode(form.document(contents))
        yield Document(f"sbom.{form.suffix}", form.media_type, text, content.sbom.attach)


def _provenance(content: ImageContent, image: str) -> Iterable[Document]:
    """The statement of what the image was made of."""
    if content.provenance is None:
        return
    text = provenance_document.statement(content.provenance, image)
    kind, predicate = provenance_document.MEDIA_TYPE, provenance_document.PREDICATE_TYPE
    yield Document("provenance.json", kind, text, content.provenance.attach, predicate)


# Each says what it has of an image whose manifest has the digest `image` ("sha256:..."), in an order that does not change.
SOURCES: tuple["Callable[[ImageContent, str], Iterable[Document]]", ...] = (_sboms, _provenance)


def documents_of(content: ImageContent, image: str) -> list[Document]:
    """All documents about an image, attached or not. `image`: the digest of its manifest."""
    return [document for source in SOURCES for document in source(content, image)]
