"""What killed processes left: scratch directories, half-made layers, and what was moved aside and not deleted to the end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import List, Optional

from opam_sandbox.layer import store_gone
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import scratch
from opam_sandbox.store.items import Item, Kind, listed, newest, on_disk

# A directory without a record is somebody's who has just begun, or a power loss took the record: what is older, in seconds, is
# nobody's.
_BEGINNING = 3600


def _find(store: Store) -> List[Item]:
    # Before the records are read: each of these that is in use has one by now.
    places = [*listed(store.own / "tmp"), *(path for top in listed(store.top / "run") for path in listed(top))]
    gone = listed(store.own / store_gone.DIRECTORY)
    records = scratch.recorded(store.scratch_records)
    alive = {path for path, lives in records if lives}
    dead = {path for path, lives in records if not lives and os.path.lexists(path)}
    found = [_item(path, False) for path in sorted(dead)]
    for path in places:
        if path not in alive and path not in dead:
            found.append(_item(path, time.time() - newest(path) < _BEGINNING))
    found += [_item(path, store.is_used(path)) for path in gone]
    return found


def _item(path: Path, in_use: bool) -> Item:
    return Item("leftovers", path.name, path, on_disk(path), newest(path), in_use)


def _take(store: Store, item: Item) -> Optional[Path]:
    if item.path.parent == store.own / store_gone.DIRECTORY:
        return item.path
    # Of dead processes: these may be on another disk, and hold files of ids that only a user namespace has.
    scratch.sweep(store.scratch_records)
    if not os.path.lexists(item.path):
        return item.path  # nothing is left to be deleted
    if any(path == item.path for path, _ in scratch.recorded(store.scratch_records)):
        return None  # it could not be removed
    return store_gone.move_aside(store.own, item.path)


LEFTOVERS = Kind("leftovers", "what killed processes left; always removed", _find, _take)
