"""Unpacked layers, and the libraries that sort directories in builds, which lie among them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, List, Optional

from opam_sandbox.layer import store_use
from opam_sandbox.layer.store import Store
from opam_sandbox.store.items import Item, Kind, on_disk

# As `building.sorted_readdir` calls what it puts into the store.
_LIBRARY = "sorted-readdir.so"


def _find(is_library: bool, kind: str) -> Callable[[Store], List[Item]]:
    def find(store: Store) -> List[Item]:
        found = []
        for entry in store.entries():
            title = _title(entry)
            if (title == _LIBRARY) != is_library:
                continue
            try:
                last_used = store_use.last_used(entry)
            except FileNotFoundError:
                continue  # somebody has just taken it away
            found.append(Item(kind, entry.name, entry, _size(entry), last_used, store.is_used(entry), title))
        return found

    return find


def _title(entry: Path) -> str:
    """As who made it called it, who may have been an image from elsewhere."""
    try:
        text = (entry / "title").read_bytes()[:200].decode("utf-8", "replace")
    except OSError:
        return ""
    return "".join(char if char.isprintable() else "?" for char in text)


def _size(entry: Path) -> int:
    """Of an entry, which never changes: measured once, and kept beside the layer."""
    record = entry / "size"
    try:
        text = record.read_text(encoding="ascii")
        if re.fullmatch(r"[0-9]{1,18}\n", text):
            return int(text)
    except (OSError, ValueError):
        pass
    size = on_disk(entry)
    try:
        record.write_text(f"{size}\n", encoding="ascii")
    except OSError:
        pass  # a full or read-only disk: the next one measures again
    return size


def _take(store: Store, item: Item) -> Optional[Path]:
    return store.take_away(item.path, item.last_used)


LAYERS = Kind("layers", "unpacked layers; a build that needs one again unpacks it", _find(False, "layers"), _take)
LIBRARIES = Kind(
    "libraries",
    "libraries that sort directories, one for each base; compiled again in a second",
    _find(True, "libraries"),
    _take,
)
