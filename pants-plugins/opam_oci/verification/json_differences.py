"""In which values two JSON documents differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator


@dataclass(frozen=True)
class JsonDifference:
    """A value: `path` as in `layers[1].annotations.a`; None where it is not there."""

    path: str
    before: Any
    after: Any


def json_differences(before: Any, after: Any, path: str = "") -> Iterator[JsonDifference]:
    """The innermost values that are not the same, in order. Manifests are not nested deeper than Python reads them."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from json_differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(before, list) and isinstance(after, list):
        for number in range(max(len(before), len(after))):
            one, other = (values[number] if number < len(values) else None for values in (before, after))
            yield from json_differences(one, other, f"{path}[{number}]")
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield JsonDifference(path, before, after)
