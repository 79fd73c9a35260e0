"""`join-image`: the layers of an image as one base layer, which the tool's other commands take as they take a Debian base's.

An image keeps the layers as they are; this one is for building over them. It has what they show together: nothing is hidden in
it. Tars that a layer may not have are refused as `layer/read_tar.py` does. The directories that a view needs are added where the
image has none, as an image from scratch: in no layer above they appear.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Dict, List, Tuple

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.importing.decompress import copy_decompressed
from opam_sandbox.importing.requests import JoinImageRequest
from opam_sandbox.layer import owners, ownership, tar_headers
from opam_sandbox.layer.capture import Sink
from opam_sandbox.layer.compress import PIECE
from opam_sandbox.layer.description import Layer, read_layer, read_layers
from opam_sandbox.layer.make import Facts, Identity, write_blob, write_description
from opam_sandbox.layer.merge_tars import merge
from opam_sandbox.layer.read_blob import check_blob
from opam_sandbox.layer.read_tar import TarReader
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.tar_headers import Entry
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import Timer

# Where a view mounts something.
_PLACES = {b"dev": 0o755, b"proc": 0o555, b"tmp": 0o1777}
_EPOCH = 1


def run(request: JoinImageRequest, jobs: int) -> int:
    """Make the layer. Returns the exit status; raises ToolError."""
    timer = Timer()
    layers = read_layers(request["layers"])
    packer = read_layer(Path(request["packer"])) if request["packer"] else None
    if any(layer.kind != "base" for layer in (*layers, *([packer] if packer else []))):
        raise RequestError("layers, packer: each should be a base")
    identity = Identity("base", request["name"], request["version"])

    def inside() -> int:
        store = Store(Path(request["store"]), is_rootless())
        with tempfile.TemporaryFile(dir=".") as joined:  # in the sandbox: it may be larger than memory
            with timer.step("join"):
                plain, entries, owned = _join(layers, joined)

            def fill(path: Path) -> None:
                joined.seek(0)
                unpack(joined, path, store.rootless, f"the base {request['name']}")

            def send(sink: Sink) -> None:
                joined.seek(0)
                for data in iter(lambda: joined.read(PIECE), b""):
                    sink.write(data)

            with timer.step("unpack"):
                root = store.put(plain, fill, f"base {request['name']}")
            with timer.step("compress"):
                written, _ = write_blob(store.get(packer) if packer else root, send)
        if written.diff_id != plain:
            raise ToolError(f"the joined layers changed while they were compressed: {written.diff_id} is not {plain}")
        write_description(identity, written, entries, Facts(dpkg=owners.facts(owned, owners.read_accounts([root]))))
        timer.write()
        return 0

    return run_isolated(inside)


class _HashingFile:
    """A sink that writes to a file and hashes what it writes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self._out.write(data)


def _join(layers: List[Layer], out: BinaryIO) -> Tuple[str, int, Dict[str, owners.Owner]]:
    """Write the layers as one tar; returns its sha256 (hex), the number of its entries, and the owners of paths that are neither
    root's nor opam's."""
    with ExitStack() as files:
        archives: List[BinaryIO] = []
        titles: List[str] = []
        for number, layer in enumerate(layers):
            title = f"layer {number} of {layer.title}"
            check_blob(layer.blob, layer.digest, layer.size, title)
            archive = files.enter_context(tempfile.TemporaryFile(dir="."))
            copy_decompressed(layer, archive, title)
            archives.append(archive)
            titles.append(title)
        archives.insert(0, files.enter_context(_places()))
        titles.insert(0, "the places of mounts")
        sink = _HashingFile(out)
        entries = merge(archives, sink, True, titles)
    out.seek(0)
    owned: Dict[str, owners.Owner] = {}
    for member in TarReader(out, "the joined layers"):
        if (member.uid, member.gid) != owners.ROOT and member.name and not ownership.is_opams(member.name):
            owned[os.fsdecode(member.name)] = (member.uid, member.gid)
    return sink.sha256.hexdigest(), entries, owned


def _places() -> BinaryIO:
    """A layer below all others, with the directories that a view needs."""
    archive = tempfile.TemporaryFile(dir=".")
    for name, mode in sorted(_PLACES.items()):
        archive.write(tar_headers.header(Entry(name, tar_headers.DIRECTORY, mode, 0, 0, 0, _EPOCH)))
    archive.write(tar_headers.END)
    archive.seek(0)
    return archive
