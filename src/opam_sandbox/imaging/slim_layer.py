"""The layer over a slim base, which may have no program that compresses it: then a base that has one does."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.compress import GZIP
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.make import Facts, Identity, make_layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.view import View


def make_slim_layer(
    identity: Identity,
    slim: Layer,
    packer: Layer,
    store: Store,
    work: Callable[[View], Facts],
    skip: Callable[[bytes, bool], bool],
) -> None:
    """As `make_layer` over the slim base alone. `packer`: a base whose program compresses where the slim one has none."""

    def packed_by(root: Path) -> Path:
        return root if _compresses(root) else store.get(packer)

    make_layer(identity, [slim], store, work, skip, packed_by=packed_by)


def _compresses(root: Path) -> bool:
    try:
        return bool(GZIP.program(root))
    except ToolError:
        return False
