"""`merge`: one layer out of several that lie on one another in an image: a group of packages, or the whole image.

The request's first layer is the base, whose program compresses if it names no `packer`; it is a part of the result if `whole`.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator, List, Mapping, cast

from opam_sandbox.errors import RequestError
from opam_sandbox.imaging.chunked.write import annotate, write_chunked_blob
from opam_sandbox.imaging.compression import CHUNKED, read_packing
from opam_sandbox.imaging.requests import MergeRequest
from opam_sandbox.layer.capture import Sink
from opam_sandbox.layer.description import read_layer, read_layers
from opam_sandbox.layer.make import Facts, Identity, write_blob, write_description
from opam_sandbox.layer.merge_tars import merge
from opam_sandbox.layer.read_blob import copy_plain
from opam_sandbox.layer.read_tar import Readable
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated


def run(request: MergeRequest, jobs: int) -> int:
    """Make the layer. Returns the exit status; raises ToolError."""
    layers = read_layers(request["layers"])
    packing = read_packing(request)
    whole = request["whole"]
    if len(layers) < 2 or layers[0].kind != "base":
        raise RequestError("layers: they should be a base and the layers to merge")
    merged = layers if whole else layers[1:]

    def produce(sink: Sink) -> int:
        archives: List[BinaryIO] = []
        with ExitStack() as files:
            for layer in merged:
                # In the sandbox: a layer may be larger than what memory or /tmp holds.
                archive = files.enter_context(tempfile.TemporaryFile(dir="."))
                copy_plain(layer, archive.write)
                archive.seek(0)
                archives.append(archive)
            entries = merge(archives, sink, whole, [layer.title for layer in merged])
        return entries

    def inside() -> int:
        packer = read_layer(Path(request["packer"])) if "packer" in request else layers[0]
        root = Store(Path(request["store"]), is_rootless()).get(packer)
        identity = Identity("flat" if whole else "group", request["name"])
        annotations: Mapping[str, str] = {}
        if request["compression"] != CHUNKED:
            written, entries = write_blob(root, produce, packing)
        else:
            with tempfile.TemporaryFile(dir=".") as merged_tar:
                entries = produce(cast(Sink, merged_tar))  # what `write` returns is nobody's

                @contextmanager
                def content() -> Iterator[Readable]:
                    merged_tar.seek(0)
                    yield merged_tar

                written, annotations = write_chunked_blob(root, content, packing, f"{identity.kind} {identity.name}")
        write_description(identity, written, entries, Facts(), packing)
        annotate(annotations)
        return 0

    return run_isolated(inside)
