"""What the store holds, and what was pruned, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Sequence

from opam_sandbox.store.items import Item, Kind
from opam_sandbox.store.pruning import DAY, Limits, Outcome, choose

_FORMAT = 1
# The bands of ages begin at so many days: each is what `--days` takes.
_DAYS = (0, 1, 2, 7, 14, 30, 90)
_PERCENTS = (90, 50, 10)
_BAR = 18
# So many of what goes are named; JSON has all.
_NAMED = 20


def human(size: int) -> str:
    """Bytes as people read them."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count(number: int, what: str = "item") -> str:
    """A number of things, such as `1 item`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def usage_data(store: str, kinds: Sequence[Kind], items: Sequence[Item], now: float) -> Dict[str, Any]:
    """What the store holds. Sizes in bytes, ages in days; would_free: what `--days` or `--percent` would remove now."""
    pruned = [item for item in items if any(kind.name == item.kind and kind.take for kind in kinds)]
    bands = []
    for begin, end in zip(_DAYS, [*_DAYS[1:], None]):
        of_age = [
            item for item in pruned if begin <= _age(item, now) / DAY and (end is None or _age(item, now) / DAY < end)
        ]
        bands.append({"days": begin, **_sum(of_age), "would_free": _freed(pruned, Limits(days=begin), now)})
    return {
        "format": _FORMAT,
        "store": store,
        **_sum(items),
        "kinds": [
            {
                "kind": kind.name,
                "about": kind.about,
                **_sum([item for item in items if item.kind == kind.name]),
                "in_use": sum(item.in_use for item in items if item.kind == kind.name),
                "pruned": kind.take is not None,
            }
            for kind in kinds
        ],
        "ages": bands,
        "percents": [
            {"percent": percent, "would_free": _freed(pruned, Limits(percent=percent), now)} for percent in _PERCENTS
        ],
    }


def usage_text(data: Dict[str, Any]) -> str:
    """`usage_data` for people."""
    lines = [f"{data['store']}: {human(data['size'])}", ""]
    lines.append(f"{'':10}  {'size':>10}  {'items':>7}  {'in use':>7}")
    for kind in data["kinds"]:
        if kind["items"]:
            numbers = f"{human(kind['size']):>10}  {kind['items']:>7,}  {kind['in_use'] if kind['pruned'] else '-':>7}"
            lines.append(f"{kind['kind']:10}  {numbers}  {kind['about']}")
    largest = max([band["size"] for band in data["ages"]] + [1])
    lines += ["", f"{'days since last use':27}  {'size':>10}  {'items':>7}  {'--days=N would free':>20}"]
    for number, band in enumerate(data["ages"]):
        after = data["ages"][number + 1 :]
        label = f"{band['days']} - {after[0]['days']}" if after else f"{band['days']} -"
        marks = "#" * (max(1, band["size"] * _BAR // largest) if band["size"] else 0)
        freed = f"--days={band['days']}: {human(band['would_free'])}"
        lines.append(f"{label:>8} {marks:18}  {human(band['size']):>10}  {band['items']:>7,}  {freed:>20}")
    freed = ", ".join(f"--percent={one['percent']}: {human(one['would_free'])}" for one in data["percents"])
    return "\n".join([*lines, "", f"would free: {freed}"])


def prune_data(store: str, outcome: Outcome, dry_run: bool) -> Dict[str, Any]:
    """What was removed, or would be. Sizes in bytes, times in seconds of the epoch."""
    return {
        "format": _FORMAT,
        "store": store,
        "dry_run": dry_run,
        "before": outcome.before,
        "after": outcome.after,
        "freed": outcome.before - outcome.after,
        "removed": [_named(item) for item in outcome.removed],
        "left": [{**_named(item), "why": why} for item, why in outcome.left],
    }


def prune_text(data: Dict[str, Any], brief: bool) -> str:
    """`prune_data` for people; brief: in one line, "" if nothing was removed."""
    by_kind: Dict[str, List[Dict[str, Any]]] = {}
    for item in data["removed"]:
        by_kind.setdefault(item["kind"], []).append(item)
    kinds = ", ".join(f"{name} {len(found):,}" for name, found in sorted(by_kind.items()))
    verb = "Would remove" if data["dry_run"] else "Removed"
    total = f"{verb} {human(data['freed'])} of {human(data['before'])}"
    head = f"{total} ({kinds})." if kinds else "Nothing is to be removed."
    if brief:
        return f"{head} {data['store']} holds {human(data['after'])} now." if kinds else ""
    lines = [head, *_list(data["removed"])]
    if data["left"]:
        kept = f"{count(len(data['left']))} of {human(sum(item['size'] for item in data['left']))} stay, as they are in use:"
        lines += [kept, *_list(data["left"])]
    return "\n".join(lines)


def _list(items: Sequence[Dict[str, Any]]) -> List[str]:
    shown = sorted(items, key=lambda item: (-item["size"], item["name"]))[:_NAMED]
    lines = [f"  {human(item['size']):>10}  {item['kind']:10} {_label(item)}" for item in shown]
    more = len(items) - len(shown)
    return [*lines, f"  and {count(more)} more"] if more else lines


def _label(item: Dict[str, Any]) -> str:
    name = item["name"][:12] if len(item["name"]) == 64 else item["name"]
    name = "".join(char if char.isprintable() else "?" for char in name)
    return f"{name} {item['title']}".rstrip()


def _named(item: Item) -> Dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "title": item.title,
        "size": item.size,
        "last_used": int(item.last_used),
    }


def _sum(items: Sequence[Item]) -> Dict[str, int]:
    return {"size": sum(item.size for item in items), "items": len(items)}


def _age(item: Item, now: float) -> float:
    return max(0.0, now - item.last_used)


def _freed(items: Sequence[Item], limits: Limits, now: float) -> int:
    return sum(item.size for item in choose(items, limits, now))


def as_json(data: Dict[str, Any]) -> str:
    """One object on several lines. Names that are no text have the escapes that JSON has for them."""
    return json.dumps(data, indent=1, sort_keys=True)
