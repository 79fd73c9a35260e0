"""What lies beside one another in a view, put right: what packages enter themselves in, and what triggers make of their files.

The rest that layers hold differently is an error. Nothing is written where no two layers differ (`beside.overlaps`).
"""

from __future__ import annotations

import os
from typing import Dict, List, Optional, Sequence, Tuple

from opam_sandbox.beside import overlaps, registries, triggers
from opam_sandbox.layer import ownership
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import view_files
from opam_sandbox.sandbox.view import View

# What a path is in the upper directory: inode, size, modification and change in ns; None if nothing was written.
_Mark = Optional[Tuple[int, int, int, int]]


class Union:
    """The union of a view's `layers` (bottom first), whose records `dpkg_union` has put right before.

    triggers: those that `make` runs or has run, as root.
    """

    def __init__(self, view: View, store: Store, layers: Sequence[Layer]) -> None:
        self._view = view
        self._layers = layers
        self._found = overlaps.find_in_store(store, layers)
        done = set(registries.unite(view, store, layers, {one.path for one in self._found}))
        self._found = [one for one in self._found if one.path not in done]
        self.triggers: List[str] = triggers.stale(view, layers)

    @property
    def is_open(self) -> bool:
        """Whether `make` may run something."""
        return bool(self.triggers or self._debians())

    def make(self, allowed: Sequence[str], what: str, field: str) -> None:
        """Run the triggers. Raises ToolError where one fails, and OverlapError for what is held differently and was not made
        again: see `overlaps.refuse`."""
        self._run(self.triggers)
        if self._debians():
            more = sorted(set(triggers.of_several(self._view, self._layers)) - set(self.triggers))
            if self._run(more):
                self.triggers = sorted([*self.triggers, *more])
        overlaps.refuse(self._found, allowed, what, field)

    def _debians(self) -> bool:
        return any(not ownership.is_opams(one.path) for one in self._found)

    def _run(self, names: Sequence[str]) -> bool:
        """Whether one of the paths was written anew: it is no overlap any more."""
        before = self._marks()
        triggers.run(self._view, names)
        after = self._marks()
        count = len(self._found)
        self._found = [one for one in self._found if before[one.path] == after[one.path]]
        return len(self._found) < count

    def _marks(self) -> Dict[bytes, _Mark]:
        return {one.path: self._mark(one.path) for one in self._found}

    def _mark(self, path: bytes) -> _Mark:
        found = view_files.status(self._view.overlay.upper, os.fsdecode(path))
        return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
