"""`repack`: a layer with the same content (diff_id), compressed another way. The first layer of the request is the base."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.imaging.chunked.write import annotate, write_chunked_blob
from opam_sandbox.imaging.compression import CHUNKED, read_packing
from opam_sandbox.imaging.requests import RepackRequest
from opam_sandbox.layer.capture import Sink
from opam_sandbox.layer.description import read_layers
from opam_sandbox.layer.make import Facts, Identity, write_blob, write_description
from opam_sandbox.layer.read_blob import copy_plain, plain_content
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated


def run(request: RepackRequest, jobs: int) -> int:
    """Make the layer. Returns the exit status; raises ToolError."""
    layers = read_layers(request["layers"])
    chunked = request["compression"] == CHUNKED
    packing = read_packing(request)
    if not 1 <= len(layers) <= 2 or layers[0].kind != "base":
        raise RequestError("layers: they should be a base and the layer to compress, or the base alone")
    layer = layers[-1]

    def produce(sink: Sink) -> None:
        copy_plain(layer, sink.write)

    def inside() -> int:
        root = Store(Path(request["store"]), is_rootless()).get(layers[0])
        annotations: Mapping[str, str] = {}
        if chunked:
            written, annotations = write_chunked_blob(root, lambda: plain_content(layer), packing, layer.title)
        else:
            written, _ = write_blob(root, produce, packing)
        if f"sha256:{written.diff_id}" != layer.diff_id:
            raise ToolError(f"{layer.title} changed while it was compressed")
        facts = Facts(layer.opam, layer.dpkg)
        write_description(Identity(layer.kind, layer.name, layer.version), written, layer.files, facts, packing)
        annotate(annotations)
        return 0

    return run_isolated(inside)
