"""Removes what was not used for the longest time, until the limits hold; never what a process uses."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.layer.store import Store
from opam_sandbox.store.items import Item, Kind
from opam_sandbox.store.leftovers import LEFTOVERS

DAY = 24 * 3600
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Limits(NamedTuple):
    """days: what was not used for longer goes. percent: of the bytes, so many stay. max_size: so many bytes stay. None: all."""

    days: Optional[int] = None
    percent: Optional[int] = None
    max_size: Optional[int] = None


class Outcome(NamedTuple):
    """removed: what was, or what would be. left: what should go and did not: each item and why. Bytes of all, before and
    after."""

    removed: Sequence[Item]
    left: Sequence[Tuple[Item, str]]
    before: int
    after: int


def read_size(text: str, disk: Path) -> int:
    """Bytes of a text such as `20GiB`, `500M` or `20%`, which is of the disk that `disk` is on. Raises ToolError, OSError."""
    found = re.fullmatch(r"\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(?:([KMGT])(?:i?B)?|(%))\s*", text, re.IGNORECASE)
    if found is None:
        raise ToolError(
            f"{text!r:.60} is no size: it takes a number and a unit, such as `20GiB`, or a part of the disk, such as `20%`"
        )
    number, unit, percent = float(found[1]), found[2], found[3]
    if percent:
        if number > 100:
            raise ToolError(f"{text!r:.60} is more than a disk has")
        status = os.statvfs(disk)
        return int(status.f_blocks * status.f_frsize * number / 100)
    return int(number * _UNITS[unit.upper()])


def choose(items: Sequence[Item], limits: Limits, now: float) -> List[Item]:
    """What goes, in this order, if nobody uses any of it meanwhile."""
    return list(prune_items(items, limits, now, lambda item: True).removed)


def prune_items(items: Sequence[Item], limits: Limits, now: float, take: Callable[[Item], bool]) -> Outcome:
    """Take items away, the least recently used first, until the limits hold, and all leftovers. `take` says whether it did."""
    before = total = sum(item.size for item in items)
    ceilings = [before * limits.percent // 100] if limits.percent is not None else []
    ceilings += [limits.max_size] if limits.max_size is not None else []
    removed: List[Item] = []
    left: List[Tuple[Item, str]] = []
    for item in sorted(items, key=lambda item: (item.kind != LEFTOVERS.name, item.last_used, item.name)):
        is_old = limits.days is not None and item.last_used < now - limits.days * DAY
        is_over = any(total > ceiling for ceiling in ceilings)
        if item.kind != LEFTOVERS.name and not is_old and not is_over:
            break
        if item.in_use or not take(item):
            left.append((item, "it is in use"))
            continue
        removed.append(item)
        total -= item.size
    return Outcome(removed, left, before, total)


def prune(store: Store, kinds: Sequence[Kind], limits: Limits, now: float, dry_run: bool) -> Outcome:
    """Prune the items of these kinds. dry_run: only say what would go. Raises ToolError, OSError."""
    by_name: Dict[str, Kind] = {kind.name: kind for kind in kinds if kind.take is not None}
    items = [item for kind in by_name.values() for item in kind.find(store)]
    if dry_run:
        return prune_items(items, limits, now, lambda item: True)
    gone: List[Path] = []

    def take(item: Item) -> bool:
        taker = by_name[item.kind].take
        try:
            path = taker(store, item) if taker else None
        except FileNotFoundError:
            return True  # somebody else has removed it
        if path is not None:
            gone.append(path)
        return path is not None

    try:
        outcome = prune_items(items, limits, now, take)
    finally:
        # What has no name any more is deleted, whatever came after it.
        store.sync_names()
        failed = _delete(gone)
    if failed:
        raise ToolError(
            "not all that was taken away could be deleted, the next prune tries again: " + "; ".join(failed)
        )
    return outcome


def _remove(path: Path) -> None:
    """Raises OSError."""
    while True:
        try:
            return remove_tree(path)
        except FileNotFoundError:
            if not os.path.lexists(path):
                return  # builds delete what lies there as well, perhaps the same at the same time


def _delete(paths: Sequence[Path]) -> List[str]:
    failed = []
    for path in paths:
        try:
            _remove(path)
        except OSError as error:
            failed.append(f"{path} ({error.strerror})")
    return failed
