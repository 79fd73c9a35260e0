"""`merge`: one layer out of several that lie on one another in an image: a group of packages, or the whole image.

The request's first layer is the base, whose program compresses; it is a part of the result if `whole`.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, List

from opam_sandbox.capture import Sink
from opam_sandbox.errors import RequestError
from opam_sandbox.imaging.merging import merge
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
    whole = request.get("whole", bool)
    if len(layers) < 2 or layers[0].kind != "base":
        raise RequestError("layers: expected a base, and after it the layers to merge")
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
            entries = merge(archives, sink, whole)
        return entries

    def inside() -> int:
        root = Store(Path(request.get("store", str)), is_rootless()).get(layers[0])
        written, entries = write_blob(root, produce, packing)
        kind = "base" if whole else "package"
        write_description(kind, request.get("name", str), "", written, entries, Facts(), packing)
        return 0

    return run_isolated(inside)
