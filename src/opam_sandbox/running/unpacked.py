"""The unpacked layers of an image that is to run."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.read_blob import LayerBlob
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import namespaces


def unpacked(store: Store, layers: Sequence[LayerBlob]) -> List[Path]:
    """The layers' directories, bottom first. A user unpacks as builds do, as root of a user namespace, so that there is one
    kind of directory for both: modes that keep their owner out do not keep it from looking at them. Raises ToolError."""
    if store.rootless and not all(store.has(layer.diff_id) for layer in layers):

        def inside() -> int:
            for layer in layers:
                store.get(layer)
            return 0

        code = namespaces.run_isolated(inside, signals=())
        if code:
            raise ToolError(f"the image's layers cannot be unpacked (exit status {code}), see above")
        return [store.path(layer.diff_id) for layer in layers]
    return [store.get(layer) for layer in layers]
