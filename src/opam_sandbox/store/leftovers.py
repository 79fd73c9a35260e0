"""What killed processes left: scratch directories, half-made layers, and what was moved aside and not deleted to the end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import List, Optional

from opam_sandbox.layer import store_gone, store_lock
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
    # A record of one that was killed at its begin names nothing.
    dead = {path for path, lives in records if not lives and path.is_absolute() and os.path.lexists(path)} - alive
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
    # Of dead processes: these may be on another disk, and hold files of ids that only a user namespace has. Nothing else of what
    # a record names is removed: it may be another one's by now, which `sweep` sees.
    scratch.sweep(store.scratch_records)
    if not os.path.lexists(item.path):
        return item.path  # nothing is left to be deleted
    if not {store.own / "tmp", store.top / "run"} & {item.path.parent, item.path.parent.parent}:
        return None
    # Who makes an entry of this name holds this lock.
    with store_lock.locked(store.own / "locks" / f"{item.path.name}.lock", wait=False) as lock:
        if not lock:
            return None
        try:
            if any(path == item.path for path, _ in scratch.recorded(store.scratch_records)):
                return None
            if newest(item.path) != item.last_used:
                return None  # it is another one
            return store_gone.move_aside(store.own, item.path)
        finally:
            os.unlink(lock)


LEFTOVERS = Kind("leftovers", "what killed processes left; always removed", _find, _take)
