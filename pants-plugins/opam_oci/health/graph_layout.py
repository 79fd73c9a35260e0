"""Places for the boxes of a graph: columns from what depends on nothing to what depends on most."""

from __future__ import annotations

from collections import defaultdict
from typing import Mapping, Sequence

# A column of more boxes is broken in two.
_HIGHEST = 40
_SWEEPS = 6


def reduced(edges: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The edges without those that others imply. Those of a circle all stay but for the one that closes it."""
    order = in_order(edges)
    rank = {id: number for number, id in enumerate(order)}
    below: dict[str, int] = {}
    result = {}
    for id in order:
        needs = sorted((need for need in edges[id] if rank[need] < rank[id]), key=lambda need: rank[need], reverse=True)
        reached, kept = 0, []
        for need in needs:
            if not reached >> rank[need] & 1:
                kept.append(need)
                reached |= below[need] | 1 << rank[need]
        below[id] = reached
        result[id] = tuple(sorted(kept))
    return result


def in_order(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """All nodes, what others need before them. A circle is cut where it is met."""
    done: dict[str, None] = {}
    entered: set[str] = set()
    for start in sorted(edges):
        stack = [(start, iter(edges[start]))] if start not in entered else []
        entered.add(start)
        while stack:
            id, needs = stack[-1]
            need = next((need for need in needs if need not in entered), None)
            if need is None:
                done[id] = None
                stack.pop()
            else:
                entered.add(need)
                stack.append((need, iter(edges[need])))
    return list(done)


def columns(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The ids in columns, from left to right and top to bottom; what has no edges comes last, in columns of its own. Edges must
    have no circles, as `reduced` leaves them."""
    users: dict[str, list[str]] = defaultdict(list)
    depth: dict[str, int] = {}
    for id in in_order(edges):
        depth[id] = 1 + max((depth[need] for need in edges[id]), default=-1)
        for need in edges[id]:
            users[need].append(id)
    layers: dict[int, list[str]] = defaultdict(list)
    alone = []
    for id in sorted(edges):
        if edges[id] or users[id]:
            layers[depth[id]].append(id)
        else:
            alone.append(id)
    ordered = [layers[number] for number in sorted(layers)]
    _sort(ordered, edges, users)
    return [part for layer in [*ordered, alone] for part in _broken(layer)]


def _sort(layers: list[list[str]], edges: Mapping[str, Sequence[str]], users: Mapping[str, Sequence[str]]) -> None:
    """Have neighbours stand at one height, so that few edges cross."""
    height = {id: (number + 0.5) / len(layer) for layer in layers for number, id in enumerate(layer)}
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        neighbours = edges if forward else users
        for layer in layers if forward else reversed(layers):
            means = {id: _mean([height[other] for other in neighbours[id]], height[id]) for id in layer}
            layer.sort(key=lambda id: (means[id], id))
            for number, id in enumerate(layer):
                height[id] = (number + 0.5) / len(layer)


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _broken(layer: Sequence[str]) -> list[list[str]]:
    count = -(-len(layer) // _HIGHEST)
    # Of one height, or nearly so.
    high = -(-len(layer) // count) if count else 1
    return [list(layer[start : start + high]) for start in range(0, len(layer), high)]
