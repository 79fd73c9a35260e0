"""Orders names by what they depend on."""

from __future__ import annotations

import heapq
from typing import Callable, Iterable, Iterator, Mapping


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


def cycles(edges: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Per name a number that it shares with those that it reaches and that reach it: with whom it is on a cycle.

    Edges to what is no key count for nothing. Time grows with names and edges, however long the cycles are.
    """
    return _Components(edges).numbers


class _Components:
    """Strongly connected components: R. Tarjan, Depth-first search and linear graph algorithms, 1972; without recursion."""

    def __init__(self, edges: Mapping[str, Iterable[str]]) -> None:
        self.numbers: dict[str, int] = {}
        self._edges = edges
        self._first: dict[str, int] = {}  # when a name was met
        self._low: dict[str, int] = {}  # the earliest that is reached from it and still open
        self._open: list[str] = []
        for name in edges:
            if name not in self._first:
                self._visit(name)

    def _visit(self, start: str) -> None:
        path = [(start, self._enter(start))]
        while path:
            name, rest = path[-1]
            other = next(rest, None)
            if other is None:
                path.pop()
                self._leave(name)
                if path:
                    above = path[-1][0]
                    self._low[above] = min(self._low[above], self._low[name])
            elif other not in self._first:
                path.append((other, self._enter(other)))
            elif other not in self.numbers:
                self._low[name] = min(self._low[name], self._first[other])

    def _enter(self, name: str) -> Iterator[str]:
        self._first[name] = self._low[name] = len(self._first)
        self._open.append(name)
        return iter([other for other in self._edges[name] if other in self._edges])

    def _leave(self, name: str) -> None:
        if self._low[name] == self._first[name]:
            while name not in self.numbers:
                self.numbers[self._open.pop()] = self._first[name]


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
