"""Which of a resolve's packages is to be built first, where several can be.

Pants runs processes in the order in which they were asked for; a process has no priority. So a package asks for its build after
those that can be built as well and have a longer way before them: the time that they, and what stands on them, will take. Nobody
knows that time before, but it grows with the sources. None of this enters a process.
"""

from __future__ import annotations

from typing import Mapping

from opam_oci.resolves.lockfile import LockedPackage, OpamLock

# Seconds of a build, as far as the lockfile tells: for any package, and for each MB of its compressed sources and of its .debs.
_ANY, _OF_SOURCES, _OF_DEBS = 0.5, 20.0, 0.2
# A package waits for no more others than that: there are hardly more cores, and each costs a little time.
_MOST = 8


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


def more_urgent(lock: OpamLock, remaining: Mapping[str, float], name: str) -> tuple[str, ...]:
    """The packages that are to be asked for before `name`, most urgent first: they have a longer way before them, and whatever
    they are built over is below `name` as well, so that they can be built by then. remaining: of `remaining_seconds`."""
    below = set(lock.build_closure([name])) - {name}
    found: list[str] = []
    for other in remaining:
        if other == name or len(found) == _MOST:
            break
        if other not in below and below.issuperset(lock.packages[other].depends):
            found.append(other)
    return tuple(found)
