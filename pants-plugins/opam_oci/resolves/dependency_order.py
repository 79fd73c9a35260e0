"""Orders names by what they depend on."""

from __future__ import annotations

import heapq
from typing import Callable, Iterable, Mapping


def build_order(depends: Mapping[str, Iterable[str]]) -> list[str]:
    """As `ready_order`, but what is on a cycle comes last, by name; a dependency on itself counts for nothing."""
    order = ready_order({name: [d for d in below if d != name] for name, below in depends.items()})
    return [*order, *sorted(set(depends) - set(order))]


def ready_order(depends: Mapping[str, Iterable[str]]) -> list[str]:
    """The names sorted so that dependencies come first, and by name among those that are ready at the same time.

    Dependencies that are no keys count for nothing; what is on a cycle, or above one, is left out.
    """
    waiting = {name: {d for d in below if d in depends} for name, below in depends.items()}
    dependents: dict[str, list[str]] = {name: [] for name in waiting}
    for name, below in waiting.items():
        for dependency in below:
            dependents[dependency].append(name)
    ready = sorted(name for name, below in waiting.items() if not below)
    order: list[str] = []
    while ready:
        name = heapq.heappop(ready)
        order.append(name)
        for dependent in dependents[name]:
            waiting[dependent].discard(name)
            if not waiting[dependent]:
                heapq.heappush(ready, dependent)
    return order


def reachable(names: Iterable[str], edges: Callable[[str], Iterable[str]]) -> set[str]:
    """`names`, and all that is reached from them along `edges`."""
    found: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(edges(name))
    return found
