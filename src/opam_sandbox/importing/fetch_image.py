"""`fetch-image`: the layers of an image by its digest, from a registry or a layout, each as a layer directory.

The digest names the manifest (or an index of several), that its config and its layers, each by its sha256: so what is written is
the same wherever it comes from, and a process that has it needs neither network nor layout again.

Writes image.json (see `FetchedImage`) and `layers/0`, `layers/1` ...
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from opam_sandbox.digests import checked
from opam_sandbox.files import write_json
from opam_sandbox.importing import documents
from opam_sandbox.importing.documents import BaseLayer
from opam_sandbox.importing.image_source import ImageSource, LayoutSource, RegistrySource
from opam_sandbox.importing.requests import FetchedImage, FetchImageRequest
from opam_sandbox.layer.description import FILE, LayerFields
from opam_sandbox.layer.read_blob import check_blob

OUTPUT, LAYERS = "image.json", "layers"


def run(request: FetchImageRequest, jobs: int) -> int:
    """Write the layers. Returns the exit status; raises ToolError that names the image."""
    digest, architecture = checked(request["digest"], "digest"), request["architecture"]
    where = f"{request['place']}@{digest}"
    with ExitStack() as stack:
        source: ImageSource = (
            LayoutSource(Path(request["place"]))
            if request["source"] == "layout"
            else stack.enter_context(RegistrySource(request))
        )
        top = documents.check_text(source.document(digest), digest, where)
        chosen = documents.chosen_manifest(top, architecture, where)
        if chosen is not None:
            top = documents.check_text(source.document(chosen), chosen, f"{where}: the manifest {chosen}")
        manifest = documents.read_manifest(top, where)
        source.prepare(chosen or digest)
        config = documents.check_text(
            source.blob_text(manifest.config.digest), manifest.config.digest, f"{where}: config"
        )
        layers = documents.read_config(config, manifest.layers, architecture, f"{where}: config")
        for number, layer in enumerate(layers):
            _write(source, layer, number, request["name"], where)
    result: FetchedImage = {"manifest": chosen or digest, "config": manifest.config.digest, "layers": len(layers)}
    write_json(OUTPUT, result)
    return 0


def _write(source: ImageSource, layer: BaseLayer, number: int, name: str, where: str) -> None:
    directory = Path(LAYERS, str(number))
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    target = blobs / layer.blob.digest.partition(":")[2]
    source.copy_blob(layer.blob.digest, target)
    check_blob(target, layer.blob.digest, layer.blob.size, f"{where}: the blob of layer {number}")
    fields: LayerFields = {
        "kind": "base",
        "name": name,
        "version": "",
        "diff_id": layer.diff_id,
        "digest": layer.blob.digest,
        "size": layer.blob.size,
        "media_type": layer.media_type,
        "files": 0,  # nobody has looked
        "opam": {},
        "dpkg": {},
    }
    write_json(os.fspath(directory / FILE), fields)
