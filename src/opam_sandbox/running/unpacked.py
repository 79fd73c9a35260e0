"""The unpacked layers of an image that is to run."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.compress import GZIP
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.oci.layer_file import LayerFile, content_of
from opam_sandbox.sandbox import namespaces

# Whoever prunes the store at the same time may take layers away between two processes of this one; once is rare.
_TRIES = 10


def unpacked(store: Store, layers: Sequence[LayerFile]) -> List[Path]:
    """The layers' directories, bottom first. A user unpacks as builds do, as root of a user namespace, so that there is one
    kind of directory for both: modes that keep their owner out do not keep it from looking at them. Raises ToolError."""
    if not store.rootless:
        return [_get(store, layer) for layer in layers]
    for _ in range(_TRIES):
        if all([store.has(layer.diff_id) for layer in layers]):  # each, so that what is there stays there
            return [store.path(layer.diff_id) for layer in layers]

        def inside() -> int:
            for layer in layers:
                _get(store, layer)
            return 0

        code = namespaces.run_isolated(inside, signals=())
        if code:
            raise ToolError(f"the image's layers cannot be unpacked (exit status {code}), see above")
    raise ToolError("the image's layers are taken away as soon as they are unpacked: another program prunes the store")


def _get(store: Store, layer: LayerFile) -> Path:
    if layer.media_type == GZIP.media_type or store.has(layer.diff_id):
        return store.get(layer)

    def fill(target: Path) -> None:
        with content_of(layer) as content:
            unpack(content, target, store.rootless, layer.title)

    return store.put(layer.diff_id, fill, layer.title)
