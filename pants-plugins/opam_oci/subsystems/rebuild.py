"""What is made again, whatever caches have of it."""

from __future__ import annotations

from enum import Enum


class Rebuild(Enum):
    """`packages`: packages' layers, and what images are made of beside them, over bases and opam's root from a cache. `all`:
    these as well."""

    none = "none"
    packages = "packages"
    all = "all"

    def more_of(self, other: Rebuild) -> Rebuild:
        """What both ask for together."""
        order = list(Rebuild)
        return max(self, other, key=order.index)
