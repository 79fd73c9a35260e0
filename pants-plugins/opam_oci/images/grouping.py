"""Which packages share a layer where an image would have too many of them. docs/images.md has a picture.

Nothing but names, dependencies and who holds what decides; sizes and digests do not. So a package that changes changes its
own group's layer and no other. No engine calls here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Mapping, Sequence

from opam_oci.resolves.dependency_order import build_order


@dataclass(frozen=True)
class Unit:
    """A package's layer: `key` is its content's (diff_id), `depends` are keys of other units."""

    key: str
    name: str
    depends: tuple[str, ...]


Groups = tuple[tuple[str, ...], ...]


def group(images: Mapping[str, Sequence[Unit]], budgets: Mapping[str, int]) -> dict[str, Groups]:
    """The groups of each image, bottom first, each of keys in their order; at most `budgets` of them.

    `images`: by name, the units of those that are to share layers. An image that keeps all its packages alone keeps
    their order as well.
    """
    units = {unit.key: unit for image in sorted(images) for unit in images[image]}
    depends = {key: units[key].depends for key in units}
    # By name: keys change with contents.
    labels = _labels(units)
    in_order = build_order({labels[key]: [labels[d] for d in depends[key] if d in labels] for key in units})
    keys = {label: key for key, label in labels.items()}
    order = [keys[label] for label in in_order]
    holders = _holders(images, order, depends)
    position = {
        key: number
        for number, key in enumerate(
            sorted(order, key=lambda key: (-len(holders[key]), sorted(holders[key])))  # stable: keeps the order
        )
    }
    sequences = {
        image: sorted({unit.key for unit in images[image]}, key=lambda key: position[key]) for image in sorted(images)
    }
    joined: set[tuple[str, str]] = set()
    apart: dict[str, set[tuple[str, str]]] = {}
    for image, sequence in sequences.items():
        seams = sorted(
            zip(sequence, sequence[1:]),
            key=lambda seam: (
                *cost(holders[seam[0]], holders[seam[1]]),
                _rank(units[seam[1]].name),
                labels[seam[1]],
            ),
        )
        chosen = seams[: max(0, len(sequence) - max(1, budgets[image]))]
        # What is held by the same images is joined in all of them or in none, so that they go on sharing it.
        joined.update(seam for seam in chosen if holders[seam[0]] == holders[seam[1]])
        apart[image] = set(chosen)
    return {
        image: _split(sequence, joined | apart[image])
        if any(seam in joined or seam in apart[image] for seam in zip(sequence, sequence[1:]))
        else tuple((key,) for key in dict.fromkeys(unit.key for unit in images[image]))
        for image, sequence in sequences.items()
    }


def cost(below: frozenset[str], above: frozenset[str]) -> tuple[bool, int]:
    """What joining two neighbours costs, by the images that hold them: the smaller, the sooner it is done.

    First whether the lower one is shared at all; then the magnitude of the number of images that hold one of them only, each
    of which could no longer take the layer from the others. (Not the number itself: among equals the names decide, the same
    way in all images, so that images which hold both form the same groups more often.)
    """
    return (len(below) > 1, len(below ^ above).bit_length())


def _labels(units: Mapping[str, Unit]) -> dict[str, str]:
    """A name for each unit: the package's, and its key too where several units are of one package."""
    count: dict[str, int] = {}
    for unit in units.values():
        count[unit.name] = count.get(unit.name, 0) + 1
    return {key: unit.name if count[unit.name] == 1 else f"{unit.name} {key}" for key, unit in units.items()}


def _holders(
    images: Mapping[str, Sequence[Unit]], order: Sequence[str], depends: Mapping[str, Sequence[str]]
) -> dict[str, frozenset[str]]:
    """By unit, the images that hold it or anything above it: never fewer for a dependency than for its dependent."""
    holders: dict[str, set[str]] = {key: set() for key in order}
    for image, held in images.items():
        for unit in held:
            holders[unit.key].add(image)
    for key in reversed(order):
        for dependency in depends[key]:
            if dependency in holders:
                holders[dependency] |= holders[key]
    return {key: frozenset(found) for key, found in holders.items()}


def _rank(name: str) -> bytes:
    """A fixed place among all names, without regard to the other packages of an image."""
    return hashlib.sha256(name.encode()).digest()


def _split(sequence: Sequence[str], joined: set[tuple[str, str]]) -> Groups:
    groups: list[list[str]] = []
    for before, key in zip([None, *sequence], sequence):
        if before is not None and (before, key) in joined:
            groups[-1].append(key)
        else:
            groups.append([key])
    return tuple(tuple(one) for one in groups)
