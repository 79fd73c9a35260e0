"""Which packages of which resolves an image asks for, and the union of what they need."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

from pants.engine.addresses import Address
from pants.engine.target import InvalidFieldException, Target

from opam_oci.fields.image import OciImagePackagesField
from opam_oci.fields.opam import OpamPackageNameField, OpamPackageVersionField, OpamResolveField
from opam_oci.resolves.dependency_order import build_order
from opam_oci.resolves.lockfile import LockedPackage, OpamLock
from opam_oci.resolves.projects import owns_an_opam_file
from opam_oci.target_types import OpamPackageTarget
from opam_oci.target_types_projects import OpamLocalPackageTarget


class ConflictingPackagesError(Exception):
    """Resolves that one image cannot hold together; the message names the packages and the ways to them."""


@dataclass(frozen=True)
class PackageSelection:
    """Packages by name, sorted, all of one resolve, and the addresses of their targets, sorted."""

    resolve: str
    names: tuple[str, ...]
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class UnionPackage:
    """A package of an image. `resolves`: those that it is of, sorted; its layer is the same in each."""

    package: LockedPackage
    resolves: tuple[str, ...]


def packages_by_resolve(image: Address, targets: Iterable[Target]) -> tuple[PackageSelection, ...]:
    """The packages that an image's `packages` field names, by resolve. Raises InvalidFieldException for anything else."""
    taken = f"`{OpamPackageTarget.alias}` and `{OpamLocalPackageTarget.alias}` targets"
    field = f"The `{OciImagePackagesField.alias}` field in target {image}"
    by_resolve: dict[str, dict[str, Address]] = {}
    for target in targets:
        if owns_an_opam_file(target):
            continue  # one of those that an `opam_project` stands for
        if not target.has_fields([OpamPackageNameField, OpamPackageVersionField]):
            raise InvalidFieldException(
                f"{field} names {target.address}, which is a `{target.alias}`; it takes {taken}."
            )
        resolve = target[OpamResolveField].value
        assert resolve is not None
        by_resolve.setdefault(resolve, {})[target[OpamPackageNameField].value] = target.address
    if not by_resolve:
        raise InvalidFieldException(f"{field} is empty; it takes the addresses of {taken}.")
    return tuple(
        PackageSelection(resolve, tuple(sorted(packages)), tuple(sorted(packages.values())))
        for resolve, packages in sorted(by_resolve.items())
    )


def union_of(
    image: Address, selections: Sequence[PackageSelection], locks: Mapping[str, OpamLock]
) -> list[UnionPackage]:
    """All packages of an image, dependencies first, by name among those that are ready at the same time.

    `locks` are the selections' lockfiles by resolve. Raises ConflictingPackagesError where they differ in a package.
    """
    found: dict[str, dict[str, LockedPackage]] = {}
    for selection in selections:
        lock = locks[selection.resolve]
        for name in lock.image_closure(selection.names):
            found.setdefault(name, {})[selection.resolve] = lock.packages[name]
    conflicts = [text for name in sorted(found) for text in [_conflict(name, found[name], selections, locks)] if text]
    if conflicts:
        listed = "".join(f"\n  * {text}" for text in conflicts)
        raise ConflictingPackagesError(
            f"The image {image} cannot hold these packages together, as their resolves differ:{listed}\n"
            "Put the packages into one resolve, or constrain the resolves to the same versions."
        )
    packages = {name: UnionPackage(next(iter(same.values())), tuple(sorted(same))) for name, same in found.items()}
    return [packages[name] for name in build_order({name: packages[name].package.depends for name in packages})]


def _conflict(
    name: str,
    packages: Mapping[str, LockedPackage],
    selections: Sequence[PackageSelection],
    locks: Mapping[str, OpamLock],
) -> str:
    """What is wrong with the resolves' idea of a package, or ""."""
    first, *others = sorted(packages)
    for other in others:
        one, two = packages[first], packages[other]
        ways = [
            f"{' -> '.join(way(locks[selection.resolve], selection.names, name))} in the resolve `{selection.resolve}`"
            for selection in selections
            if selection.resolve in (first, other)
        ]
        if one.version != two.version:
            return f"{one.full_name} and {two.full_name}: {'; '.join(ways)}"
        if _recipe(locks[first], one) != _recipe(locks[other], two):
            return f"{one.full_name} is not locked the same ({_difference(one, two)}): {'; '.join(ways)}"
    return ""


def _recipe(lock: OpamLock, package: LockedPackage) -> tuple[object, ...]:
    """What decides on a package's layer, but for the layers below it."""
    return (
        package.opam,
        package.local,
        set(package.depends),
        sorted((source.name, source.sha256) for source in package.sources),
        set(package.files),
        set(lock.debs_of(package.name)),
    )


def _difference(one: LockedPackage, two: LockedPackage) -> str:
    if set(one.depends) != set(two.depends):
        return f"it depends on {', '.join(sorted(set(one.depends) ^ set(two.depends)))} in one of them only"
    if one.local != two.local:
        return "it is built from this repository in one of them only, or from another directory"
    if one.opam != two.opam:
        return "its opam files differ"
    if {source.sha256 for source in one.sources} != {source.sha256 for source in two.sources}:
        return "its sources differ"
    return "its files or Debian packages differ"


def way(lock: OpamLock, roots: Iterable[str], name: str) -> list[str]:
    """The shortest chain of dependencies from one of `roots` to `name`, both included, as `name.version`."""
    came_from: dict[str, str] = {root: "" for root in sorted(roots)}
    waiting = deque(came_from)
    while waiting and name not in came_from:
        current = waiting.popleft()
        for dependency in sorted(lock.all_depends(current)):
            if dependency not in came_from:
                came_from[dependency] = current
                waiting.append(dependency)
    chain: list[str] = []
    at = name
    while at:
        chain.append(lock.packages[at].full_name)
        at = came_from.get(at, "")
    return chain[::-1]
