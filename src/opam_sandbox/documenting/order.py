"""In which order interfaces are read: each after those that it names.

`odoc compile-deps` says of a module which others it names, with the digests of their interfaces, its own among them.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Set, Tuple

from opam_sandbox.documenting.units import Unit
from opam_sandbox.errors import ToolError

# A module's name and the digest of its interface.
Interface = Tuple[str, str]


def parse(text: str) -> List[Interface]:
    """What `odoc compile-deps` printed."""
    words = [line.split() for line in text.splitlines()]
    return [(line[0], line[1]) for line in words if len(line) == 2]


def dependencies(said: Mapping[Unit, Sequence[Interface]]) -> Dict[Unit, List[Unit]]:
    """Of each module those that it names and that are documented, sorted. Where several have the same interface, as copies of one
    have, it is the one of the same library, else the first."""
    by_interface: Dict[Interface, List[Unit]] = {}
    for unit in sorted(said):
        for interface in said[unit]:
            if interface[0] == unit.module:
                by_interface.setdefault(interface, []).append(unit)
    found = {}
    for unit, interfaces in said.items():
        named = (
            min(by_interface[one], key=lambda other: (other.parent != unit.parent, other))
            for one in interfaces
            if one[0] != unit.module and one in by_interface
        )
        found[unit] = sorted(set(named) - {unit})
    return found


def levels(depends: Mapping[Unit, Sequence[Unit]]) -> List[List[Unit]]:
    """The modules in steps: what a module names is in an earlier one. Raises ToolError for a circle."""
    waiting: Dict[Unit, Set[Unit]] = {unit: set(named) for unit, named in depends.items()}
    steps = []
    while waiting:
        ready = sorted(unit for unit, named in waiting.items() if not named)
        if not ready:
            raise ToolError(f"modules name each other in a circle: {', '.join(sorted(unit.file for unit in waiting))}")
        steps.append(ready)
        for unit in ready:
            del waiting[unit]
        for named in waiting.values():
            named.difference_update(ready)
    return steps


def search_paths(depends: Mapping[Unit, Sequence[Unit]], steps: Sequence[Sequence[Unit]]) -> Dict[Unit, List[str]]:
    """For each module the directories of all that it names, directly or not, and its own; sorted."""
    found: Dict[Unit, Set[str]] = {}
    for step in steps:
        for unit in step:
            found[unit] = {unit.parent}.union(*(found[named] for named in depends[unit]))
    return {unit: sorted(paths) for unit, paths in found.items()}
