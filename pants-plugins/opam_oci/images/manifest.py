"""The manifest, the config and the index of an OCI image layout, and the manifests that attach documents to the image.

Nothing is run for it: all that it is made of is known by now, and a process of its own would take longer than this. Of layers it
has what their descriptions say. Whether their blobs are that, `sandbox/layer.py` asks when they are made, and `stored_files.py`
before anything leaves Pants' store. Source: OCI image-spec 1.1 (manifest.md, config.md, image-layout.md, annotations.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Mapping

from opam_oci.images.image_texts import HistoryEntry
from opam_oci.images.oci_layout import MANIFEST_TYPE, REF_NAME, index_json
from opam_oci.images.provenance_document import ProvenanceContent
from opam_oci.images.referrers import Document, documents_of
from opam_oci.images.sbom_documents import Component
from opam_oci.sandbox.layer import Layer, blob_path

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
# What a manifest has for a config that says nothing (manifest.md, "Guidance for an Empty Descriptor").
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

TITLE = "org.opencontainers.image.title"
CREATED_AT = "org.opencontainers.image.created"
# What builders of images call it on the layers of statements.
PREDICATE = "in-toto.io/predicate-type"

# Of other bytes than an index's: an image's has always been written so, and stays what dist/ and caches have.
_OCI_LAYOUT = b'{\n "imageLayoutVersion": "1.0.0"\n}\n'

_Descriptor = Mapping[str, Any]


@dataclass(frozen=True)
class SbomContent:
    """What the SBOM of an image is made from. `attach`: manifests in the index attach the documents to the image."""

    name: str
    attach: bool
    components: tuple[Component, ...]


@dataclass(frozen=True)
class ImageContent:
    """What an image consists of. `layers` and `history` go together, bottom first; `config` is the field of the image's
    configuration; `created` is a time as RFC 3339 has it; `sbom` and `provenance` are None for an image without one."""

    layers: tuple[Layer, ...]
    history: tuple[HistoryEntry, ...]
    architecture: str
    os: str
    config: Mapping[str, Any]
    created: str
    annotations: Mapping[str, str]
    ref_name: str
    sbom: SbomContent | None
    provenance: ProvenanceContent | None = None


@dataclass(frozen=True)
class ImageTexts:
    """`layout`: the files of the layout but the layers' blobs, `documents`: what lies beside it, both by path.

    `manifest` and `config` are digests "sha256:..."."""

    layout: Mapping[str, bytes]
    documents: Mapping[str, bytes]
    manifest: str
    config: str


def write_image(content: ImageContent) -> ImageTexts:
    """The same content always gives the same bytes."""
    assert len(content.history) == len(content.layers)
    blobs: dict[str, bytes] = {}
    config = {
        "created": content.created,
        "architecture": content.architecture,
        "os": content.os,
        "config": content.config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in content.layers]},
        "history": [_history(entry, content.created) for entry in content.history],
    }
    described = _json_blob(blobs, config, CONFIG_TYPE)
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": described,
        "layers": [_layer(layer, entry.get("title", "")) for layer, entry in zip(content.layers, content.history)],
    }
    if content.annotations:
        manifest["annotations"] = content.annotations
    image = _json_blob(blobs, manifest, MANIFEST_TYPE)
    documents = documents_of(content, image["digest"])
    referrers = [attached(blobs, image, one, content.created) for one in documents if one.attached]
    entry = {
        **image,
        "platform": {"architecture": content.architecture, "os": content.os},
        "annotations": {REF_NAME: content.ref_name},
    }
    layout = {
        "index.json": index_json([entry, *referrers]),
        "oci-layout": _OCI_LAYOUT,
        **blobs,
    }
    beside = {document.path: document.text for document in documents}
    return ImageTexts(layout, beside, image["digest"], described["digest"])


def _layer(layer: Layer, title: str) -> _Descriptor:
    descriptor: dict[str, Any] = {"mediaType": layer.media_type, "digest": layer.blob, "size": layer.size}
    annotations = dict(layer.annotations)
    if title:
        annotations[TITLE] = title
    if annotations:
        descriptor["annotations"] = annotations
    return descriptor


def _history(entry: HistoryEntry, created: str) -> Mapping[str, str]:
    result = {"created": created, "created_by": entry["created_by"]}
    if entry.get("comment"):
        result["comment"] = entry["comment"]
    return result


def attached(blobs: dict[str, bytes], image: _Descriptor, document: Document, created: str) -> _Descriptor:
    """The descriptor of a manifest that attaches a document to the image. It and the document are entered in `blobs`."""
    media_type = document.media_type
    predicate = {PREDICATE: document.predicate} if document.predicate else {}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": media_type,
        "config": {**_blob(blobs, b"{}", EMPTY_TYPE), "data": "e30="},
        "layers": [{**_blob(blobs, document.text, media_type), "annotations": {TITLE: document.path, **predicate}}],
        "subject": image,
        "annotations": {CREATED_AT: created, **predicate},
    }
    return {**_json_blob(blobs, manifest, MANIFEST_TYPE), "artifactType": media_type}


def _json_blob(blobs: dict[str, bytes], data: object, media_type: str) -> dict[str, Any]:
    """Enter JSON as a blob (sorted keys, no white space); returns its descriptor."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _blob(blobs, text.encode(), media_type)


def _blob(blobs: dict[str, bytes], content: bytes, media_type: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blobs[blob_path(digest)] = content
    return {"mediaType": media_type, "digest": digest, "size": len(content)}
