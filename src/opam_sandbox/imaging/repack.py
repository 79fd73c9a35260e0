"""`repack`: a layer with the same content (diff_id), compressed another way. The first layer of the request is the base."""

from __future__ import annotations

from pathlib import Path

from opam_sandbox.capture import Sink
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.imaging.packing import read_packing
from opam_sandbox.imaging.plain import copy_plain
from opam_sandbox.isolation import is_rootless, run_isolated
from opam_sandbox.layer import read_layers
from opam_sandbox.maker import Facts, write_blob, write_description
from opam_sandbox.request import Request
from opam_sandbox.store import Store


def run(request: Request, jobs: int) -> int:
    layers = read_layers(request.strings("layers"))
    packing = read_packing(request)
    if not 1 <= len(layers) <= 2 or layers[0].kind != "base":
        raise RequestError("layers: expected a base, and after it the layer to compress (or only the base)")
    layer = layers[-1]

    def produce(sink: Sink) -> int:
        copy_plain(layer, sink.write)
        return layer.files

    def inside() -> int:
        root = Store(Path(request.get("store", str)), is_rootless()).get(layers[0])
        written, files = write_blob(root, produce, packing)
        if f"sha256:{written.diff_id}" != layer.diff_id:
            raise ToolError(f"{layer.title} changed while it was compressed")
        facts = Facts(layer.opam, layer.dpkg)
        write_description(layer.kind, layer.name, layer.version, written, files, facts, packing)
        return 0

    return run_isolated(inside)
