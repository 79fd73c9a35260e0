"""Which packages the targets on a command line mean, for goals that look into builds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from pants.engine.target import Target

from opam_oci.entering.asked import is_package as is_package
from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.opam import OpamPackageNameField, OpamResolveField
from opam_oci.images.packages import packages_by_resolve, union_of
from opam_oci.layers.build_plan import BuildPlanRequest, plan_build
from opam_oci.pants_engine.calls import addresses_of, targets_of
from opam_oci.pants_engine.rules import concurrently, implicitly


class NoPackagesError(Exception):
    """No target on the command line is of a package."""


@dataclass(frozen=True)
class AskedPackage:
    """A package of a resolve."""

    resolve: str
    name: str


def package_of(target: Target) -> AskedPackage:
    """The package of an `opam_package`."""
    return AskedPackage(target[OpamResolveField].value or "", target[OpamPackageNameField].value)


async def packages_of_image(field_set: OciPackageImageFieldSet) -> list[AskedPackage]:
    """All packages of an image, dependencies first."""
    named = await targets_of(await addresses_of(field_set.packages.to_unparsed_address_inputs()))
    selections = packages_by_resolve(field_set.address, named)
    plans = await concurrently(plan_build(BuildPlanRequest(one.resolve), **implicitly()) for one in selections)
    locks = {one.resolve: plan.lock for one, plan in zip(selections, plans)}
    packages = union_of(field_set.address, selections, locks)
    return [AskedPackage(union.resolves[0], union.package.name) for union in packages]


async def packages_of_targets(targets: Iterable[Target], goal: str) -> list[AskedPackage]:
    """Of packages and images, each once. Raises NoPackagesError where there are none."""
    found: dict[AskedPackage, None] = {}
    for target in sorted(targets, key=lambda target: target.address):
        if is_package(target):
            found[package_of(target)] = None
        elif OciPackageImageFieldSet.is_applicable(target):
            found.update(dict.fromkeys(await packages_of_image(OciPackageImageFieldSet.create(target))))
    if not found:
        raise NoPackagesError(
            f"`{goal}` is for `opam_package` targets, such as `3rdparty/opam:default#lwt`, for `opam_local_package` targets, "
            "such as `src/hello:project#hello`, and for `oci_package_image` targets; the command line names none."
        )
    return list(found)
