"""All kinds of what the store holds, as they are listed. What is to be listed and pruned as well gets a `Kind` here."""

from __future__ import annotations

from typing import Tuple

from opam_sandbox.store.beside import BYTECODE, FAILED, LOCKING, RECORDS, UNKNOWN, VERSIONS
from opam_sandbox.store.items import Kind
from opam_sandbox.store.layers import LAYERS, LIBRARIES
from opam_sandbox.store.leftovers import LEFTOVERS

KINDS: Tuple[Kind, ...] = (LAYERS, LIBRARIES, BYTECODE, FAILED, LOCKING, VERSIONS, LEFTOVERS, RECORDS, UNKNOWN)

# By name, those that can be pruned.
PRUNED = tuple(kind.name for kind in KINDS if kind.take is not None)
