"""Who depends on a version of a package, directly or through others: by depends, by depopts, or by what its tests need."""

from __future__ import annotations

from typing import Dict, List, Literal, Sequence, Set, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.repositories import Packages
from opam_sandbox.locking.root_requests import ReverseDependency
from opam_sandbox.locking.universe import Universe
from opam_sandbox.opam import formulas, opamfile

NameVersion = Tuple[str, str]
By = Literal["depends", "depopts", "test"]


def reverse_dependencies(
    universe: Universe, packages: Packages, roots: Sequence[NameVersion], target: NameVersion, more: bytes
) -> List[ReverseDependency]:
    """Of `roots`, which are one version of each name, those that may depend on `target`, nearest first. A tie goes to depends,
    then to depopts. more: opam's description of packages with what their tests need.

    Whether they can be installed together is not asked. Tests and depopts count for the last step only: who is installed
    brings what it depends on, but not what it may use or test with."""
    with_tests = Universe(more)
    versions = dict(roots)
    direct: Dict[By, Set[str]] = {"depends": set(), "depopts": set(), "test": set()}
    above: Dict[str, Set[str]] = {}
    for name, version in roots:
        if name == target[0]:
            continue
        depends = _names(universe, name, version, target)
        for other in depends:
            above.setdefault(other, set()).add(name)
        if target[0] in depends:
            direct["depends"].add(name)
        elif target[0] in _depopts(packages, name, version, target):
            direct["depopts"].add(name)
        elif target[0] in _names(with_tests, name, version, target):
            direct["test"].add(name)
    found: List[ReverseDependency] = []
    seen = {target[0]}
    for by in ("depends", "depopts", "test"):
        found += [_entry(name, versions, target, 1, by) for name in sorted(direct[by])]
        seen |= direct[by]
    # What is above those by depopts and tests has them for its own sake, and not this package.
    level, distance = direct["depends"], 2
    while level:
        level = {name for below in level for name in above.get(below, ())} - seen
        found += [_entry(name, versions, target, distance, "depends") for name in sorted(level)]
        seen |= level
        distance += 1
    return found


def _entry(name: str, versions: Dict[str, str], target: NameVersion, distance: int, by: By) -> ReverseDependency:
    of = ".".join(target)
    return {"name": name, "version": versions[name], "of": of, "distance": distance, "by": by, "packages": {}}


def _names(universe: Universe, name: str, version: str, target: NameVersion) -> Set[str]:
    """All names that a version's dependencies have; the target's only where its version is within the bound."""
    known = universe.names.get(name)
    number = next((n for n, v in known.available.items() if v == version), None) if known else None
    if number is None:
        return set()
    pinned = next((n for n, v in universe.names[target[0]].versions.items() if v == target[1]), -1)
    found, refused = set(), set()
    for one in universe.alternatives(name, number):
        own = universe.own_name(one.name)
        if own == target[0] and not one.accepts(pinned):
            refused.add(own)
        found.add(own)
    return found - refused


def _depopts(packages: Packages, name: str, version: str, target: NameVersion) -> Set[str]:
    """The target's name if a version may use the target's version."""
    raw = packages.package(name, version).opam
    if b"depopts" not in raw or target[0].encode() not in raw:
        return set()
    try:
        items = opamfile.parse(raw.decode("utf-8", "surrogateescape"), f"{name}.{version}: opam file")
    except ToolError:
        return set()  # opam lists it all the same; if it is built, its file is asked about
    values = [item.value for item in items if item.name == "depopts" and item.value is not None]
    for value in values:
        for other, filters in formulas.atoms(value):
            if other == target[0] and all(formulas.evaluate(one, {}, target[1]) is not False for one in filters):
                return {other}
    return set()
