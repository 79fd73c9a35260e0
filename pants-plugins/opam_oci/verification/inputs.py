"""What an image was made of, and what this checkout takes in its place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Iterable, Iterator, Mapping

from opam_oci.images.provenance_document import Dependency
from opam_oci.verification.recorded import Recorded, RecordedDependency


class InputChange(Enum):
    """What this checkout does with something that an image may be made of: `added` to what was recorded, `gone` from it,
    `changed`: another of that name."""

    added = "added"
    gone = "gone"
    changed = "changed"


@dataclass(frozen=True)
class InputDifference:
    """A dependency, by the name that statements give it; None: that side does not have it."""

    name: str
    change: InputChange
    recorded: RecordedDependency | None
    here: RecordedDependency | None


@dataclass(frozen=True)
class ParameterDifference:
    """What BUILD files or options ask for, such as `fields.cmd`: JSON values, None where nothing is said."""

    name: str
    recorded: Any
    here: Any


@dataclass(frozen=True)
class InputDifferences:
    """`same`: how many dependencies are the same."""

    same: int
    dependencies: tuple[InputDifference, ...]
    parameters: tuple[ParameterDifference, ...]


def input_differences(
    recorded: Recorded, parameters: Mapping[str, Any], dependencies: Iterable[Dependency]
) -> InputDifferences:
    """In the order of their names. parameters, dependencies: of this checkout."""
    here = {one.name: RecordedDependency({one.algorithm: one.digest}, one.uri) for one in dependencies}
    there = recorded.dependencies
    differ = tuple(
        InputDifference(name, _change(there.get(name), here.get(name)), there.get(name), here.get(name))
        for name in sorted({*there, *here})
        if name not in there or name not in here or not _is_same(there[name].digest, here[name].digest)
    )
    same = sum(name in here for name in there) - sum(one.change is InputChange.changed for one in differ)
    return InputDifferences(same, differ, tuple(_parameters("", recorded.parameters, parameters)))


def _change(recorded: RecordedDependency | None, here: RecordedDependency | None) -> InputChange:
    if recorded is None:
        return InputChange.added
    return InputChange.gone if here is None else InputChange.changed


def _is_same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Two digest sets are of one thing if they have an algorithm in common, and agree in all that they have in common."""
    common = set(one) & set(other)
    return bool(common) and all(one[key] == other[key] for key in common)


def _parameters(prefix: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[ParameterDifference]:
    for key in sorted({*one, *other}):
        left, right = one.get(key), other.get(key)
        if not prefix and isinstance(left, dict) and isinstance(right, dict):
            yield from _parameters(f"{key}.", left, right)
        elif left != right:
            yield ParameterDifference(f"{prefix}{key}", left, right)
