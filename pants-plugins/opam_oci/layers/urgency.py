"""Which of a resolve's packages is to be built first, where several can be.

Pants runs processes in the order in which they were asked for; a process has no priority. So a package asks for its build after
those that can be built as well and have a longer way before them: the time that they, and what stands on them, will take. Nobody
knows that time before, but it grows with the sources. None of this enters a process, and none of it changes a layer.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Iterable, Mapping

from opam_oci.resolves.lockfile import LockedPackage, OpamLock

# Seconds of a build, as far as the lockfile tells: for any package, and for each MB of its compressed sources and of its .debs.
_ANY, _OF_SOURCES, _OF_DEBS = 0.5, 20.0, 0.2
# A package waits for no more others than that: there are hardly more cores, and each costs a little time.
_MOST = 8
# For so many seconds of small packages one with sources waits, and leaves a core to nobody, until a larger one can be asked for.
_SHORT, _LARGER = 1.5, 4.0


class Wanted:
    """The packages of a resolve that images asked for, in this run or an earlier one of the same daemon. Rules that run at once
    may use it. It is no part of what a plan says: nothing but the order of builds follows from it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: frozenset[str] = frozenset()

    def add(self, names: Iterable[str]) -> None:
        """Note what is going to be asked for."""
        with self._lock:
            self._names = self._names.union(names)

    def all(self) -> frozenset[str]:
        """Those noted until now."""
        return self._names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wanted)

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True)
class Turn:
    """When a package is to ask for its build: after `first` (dependencies first) are built, and `ahead` (most urgent first) have
    been asked for."""

    first: tuple[str, ...]
    ahead: tuple[str, ...]


def build_seconds(lock: OpamLock, package: LockedPackage) -> float:
    """A guess of how long a package takes to build."""
    sources = sum(size for _, size in {(source.sha256, source.size) for source in package.sources})
    debs = sum(lock.debs[name].size for name in package.debs)
    return _ANY + (_OF_SOURCES * sources + _OF_DEBS * debs) / 1e6


def remaining_seconds(lock: OpamLock) -> dict[str, float]:
    """Of each package the longest way from the start of its build to the end of all that is built on it; longest first."""
    longest: dict[str, float] = {}
    order = lock.in_build_order(lock.packages)
    above: dict[str, float] = dict.fromkeys(order, 0.0)
    for name in reversed(order):
        package = lock.packages[name]
        longest[name] = above[name] + build_seconds(lock, package)
        for dependency in package.depends:
            above[dependency] = max(above[dependency], longest[name])
    return dict(sorted(longest.items(), key=lambda item: (-item[1], item[0])))


def turn_of(lock: OpamLock, remaining: Mapping[str, float], wanted: frozenset[str], name: str) -> Turn:
    """After those that have a longer way before them, and can be built when `name` can: what they are built over is below it as
    well, or so small that a larger package is worth the wait. remaining: of `remaining_seconds`.

    Nothing but what is wanted is waited for."""
    below = set(lock.build_closure([name])) - {name}
    is_small = build_seconds(lock, lock.packages[name]) <= _ANY
    first: set[str] = set()
    ahead: list[str] = []
    for other in remaining:
        if other == name or len(ahead) == _MOST:
            break
        if other in below or other not in wanted:
            continue
        package = lock.packages[other]
        missing = set(lock.build_closure(package.depends)) - below
        if missing:
            if is_small or build_seconds(lock, package) < _LARGER or not _are_short(lock, missing, wanted):
                continue
            first.update(missing)
        ahead.append(other)
    return Turn(lock.in_build_order(first), tuple(ahead))


def _are_short(lock: OpamLock, names: set[str], wanted: frozenset[str]) -> bool:
    """Whether these are wanted, take next to no time, and need nothing fetched."""
    packages = [lock.packages[name] for name in names]
    return (
        names <= wanted
        and not any(package.local or package.sources or package.debs or package.out_of_reach for package in packages)
        and sum(build_seconds(lock, package) for package in packages) <= _SHORT
    )
