"""In what two images differ: packages, layers, the configuration.

Layers are compared by their `diff_id`: the same content, compressed otherwise, is the same layer. A package that shares its layer
with others is the same if that layer is; of another one nothing is said but its version, as no layer is read here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Iterator, Mapping

from opam_oci.image_reports.records import ImageRecord, LayerKind, LayerRecord


class Change(Enum):
    """What became of a package or a layer.

    `rebuilt`: the same version, with other content; `joined`: the same version, in another layer that others share; `repacked`:
    the same content, compressed otherwise."""

    added = "added"
    removed = "removed"
    version = "version"
    rebuilt = "rebuilt"
    joined = "joined"
    repacked = "repacked"
    changed = "changed"


@dataclass(frozen=True)
class PackageDifference:
    """Versions are "" where the image does not have the package. Bytes are those of its layer, None where others share it."""

    name: str
    change: Change
    before: str
    after: str
    bytes_before: int | None
    bytes_after: int | None


@dataclass(frozen=True)
class LayerDifference:
    """Layers that belong together, of which at most one is None. change: `added`, `removed`, `changed` or `repacked`."""

    change: Change
    before: LayerRecord | None
    after: LayerRecord | None

    @property
    def title(self) -> str:
        """What people call it."""
        titles = [layer.title for layer in (self.before, self.after) if layer is not None]
        return " -> ".join(dict.fromkeys(titles))


@dataclass(frozen=True)
class ValueDifference:
    """A value of the configuration: JSON values, None where it is not there. key: of an object or of a variable, "" else."""

    field: str
    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """In what `after` differs from `before`. reordered: layers that both have lie in another order."""

    before: ImageRecord
    after: ImageRecord
    packages: tuple[PackageDifference, ...]
    layers: tuple[LayerDifference, ...]
    values: tuple[ValueDifference, ...]
    same_layers: int
    reordered: bool

    @property
    def is_same_image(self) -> bool:
        """Whether the manifests are the same, and so all of it is."""
        return self.before.manifest == self.after.manifest


def difference_of(before: ImageRecord, after: ImageRecord) -> Difference:
    """Compare two images."""
    layers = tuple(_layers(before, after))
    common = {layer.diff_id for layer in before.layers} & {layer.diff_id for layer in after.layers}
    orders = [[layer.diff_id for layer in image.layers if layer.diff_id in common] for image in (before, after)]
    return Difference(
        before,
        after,
        tuple(_packages(before, after)),
        layers,
        tuple(_values(before, after)),
        len(common),
        orders[0] != orders[1],
    )


def _packages(before: ImageRecord, after: ImageRecord) -> Iterator[PackageDifference]:
    old, new = _packages_of(before), _packages_of(after)
    for name in sorted({*old, *new}):
        if name not in new:
            version, layer = old[name]
            yield PackageDifference(name, Change.removed, version, "", _own_bytes(layer), None)
        elif name not in old:
            version, layer = new[name]
            yield PackageDifference(name, Change.added, "", version, None, _own_bytes(layer))
        else:
            change = _change(*old[name], *new[name])
            if change is not None:
                (one, first), (two, second) = old[name], new[name]
                yield PackageDifference(name, change, one, two, _own_bytes(first), _own_bytes(second))


def _packages_of(image: ImageRecord) -> dict[str, tuple[str, LayerRecord]]:
    """Name -> version and layer, of all packages that its layers name; of one that is there twice the upper one."""
    found = {}
    for layer in image.layers:
        for full_name in layer.packages:
            name, _, version = full_name.partition(".")
            found[name] = (version, layer)
    return found


def _change(one: str, first: LayerRecord, two: str, second: LayerRecord) -> Change | None:
    if one != two:
        return Change.version
    if first.diff_id == second.diff_id:
        return None if first.digest == second.digest else Change.repacked
    return Change.rebuilt if len(first.packages) == len(second.packages) == 1 else Change.joined


def _own_bytes(layer: LayerRecord) -> int | None:
    return layer.size if len(layer.packages) == 1 and layer.kind is LayerKind.packages else None


def _layers(before: ImageRecord, after: ImageRecord) -> Iterator[LayerDifference]:
    """In the order of `before`; what only `after` has comes last."""
    left = list(enumerate(before.layers))
    right = list(enumerate(after.layers))
    pairs: dict[int, int] = {}
    for key in (_content, _names, _package_names, _kind, _line):
        taken = set(pairs.values())
        free: dict[object, list[int]] = {}
        for place, layer in right:
            if place not in taken and key(layer):
                free.setdefault(key(layer), []).append(place)
        for place, layer in left:
            if place not in pairs and free.get(key(layer)):
                pairs[place] = free[key(layer)].pop(0)
    for place, layer in left:
        if place not in pairs:
            yield LayerDifference(Change.removed, layer, None)
            continue
        other = after.layers[pairs[place]]
        if layer.diff_id != other.diff_id:
            yield LayerDifference(Change.changed, layer, other)
        elif layer.digest != other.digest:
            yield LayerDifference(Change.repacked, layer, other)
    for place, layer in right:
        if place not in pairs.values():
            yield LayerDifference(Change.added, None, layer)


def _content(layer: LayerRecord) -> object:
    return layer.diff_id


def _names(layer: LayerRecord) -> object:
    return layer.packages


def _package_names(layer: LayerRecord) -> object:
    return tuple(full_name.partition(".")[0] for full_name in layer.packages)


def _kind(layer: LayerRecord) -> object:
    """Of which an image has one."""
    return None if layer.kind in (LayerKind.packages, LayerKind.other) else layer.kind


def _line(layer: LayerRecord) -> object:
    """What other tools did for it, as far as they say it."""
    return layer.created_by if layer.kind is LayerKind.other else None


# Of these, each entry counts for itself.
_OBJECTS = ("Labels", "ExposedPorts", "Volumes")


def _values(before: ImageRecord, after: ImageRecord) -> Iterator[ValueDifference]:
    if before.platform != after.platform:
        yield ValueDifference("platform", "", before.platform, after.platform)
    old, new = before.config, after.config
    for name in sorted({*old, *new}):
        one, two = old.get(name), new.get(name)
        if name == "Env":
            yield from _entries(name, _variables(one), _variables(two))
        elif name in _OBJECTS and isinstance(one or {}, dict) and isinstance(two or {}, dict):
            yield from _entries(name, one or {}, two or {})
        # What is empty means what is not there.
        elif (one or None) != (two or None):
            yield ValueDifference(name, "", one, two)
    yield from _entries("annotations", before.annotations, after.annotations)


def _entries(field: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[ValueDifference]:
    for key in sorted({*one, *two}):
        if key not in one or key not in two or one[key] != two[key]:
            yield ValueDifference(field, key, one.get(key), two.get(key))


def _variables(value: Any) -> dict[str, str]:
    """`NAME=value` of a list; the last one counts."""
    texts = [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
    return {name: text for name, _, text in (one.partition("=") for one in texts)}


def value_text(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
