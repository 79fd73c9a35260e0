"""Builds what an image is made of: its packages' layers, and what they stand on."""

from __future__ import annotations

from dataclasses import dataclass

from pants.engine.addresses import Address, AddressInput
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.target import InvalidFieldException
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.image import OciImageBaseField, OciImagePackagesField
from opam_oci.images.packages import PackageSelection, UnionPackage, packages_by_resolve, union_of
from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest, plan_build
from opam_oci.layers.foundation import Foundation, FoundationRequest, make_foundation
from opam_oci.layers.package import PackageLayerRequest, PackageOutcome, build_package_layer
from opam_oci.pants_engine.calls import addresses_of, parse_address, targets_of
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.lockfile import Deb
from opam_oci.sandbox.layer import Layer, LayerError
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class ImagePartsRequest(EngineAwareParameter):
    """Asks for all packages of an image, built."""

    field_set: OciPackageImageFieldSet

    def debug_hint(self) -> str:
        return str(self.field_set.address)


@dataclass(frozen=True)
class ImageParts:
    """An image's packages, dependencies first, with their layers, and what they stand on. `debs` are of the packages.
    overlapping_files: patterns of paths that packages may hold differently."""

    address: Address
    selections: tuple[PackageSelection, ...]
    plan: BuildPlan
    ground: Foundation
    packages: tuple[UnionPackage, ...]
    layers: tuple[Layer, ...]
    debs: tuple[Deb, ...]
    overlapping_files: tuple[str, ...]


class PackagesFailedError(Exception):
    """Some packages of an image could not be built; the message tells all about each."""


def check_outcomes(image: object, outcomes: tuple[PackageOutcome, ...]) -> None:
    """Raise PackagesFailedError unless every package has its layer."""
    failed = sorted({(o.package, o.failed) for o in outcomes if o.failed is not None})
    blocked = sorted({(o.package, o.blocked_by) for o in outcomes if o.blocked_by})
    if not failed and not blocked:
        return
    parts = [f"The image {image} was not written: {pluralize(len(failed), 'package')} failed."]
    parts.extend(f"{package} failed: {message}" for package, message in failed)
    if blocked:
        listed = "".join(f"\n  * {package} (because of {', '.join(culprits)})" for package, culprits in blocked)
        parts.append(f"Not built:{listed}")
    raise PackagesFailedError("\n\n".join(parts))


def check_bases(image: object, selections: tuple[PackageSelection, ...], plans: tuple[BuildPlan, ...]) -> None:
    """Raise InvalidFieldException unless all resolves are built in one base."""
    if len({plan.rootfs.address for plan in plans}) > 1:
        listed = "; ".join(
            f"`{selection.resolve}` in {plan.rootfs.address} ({', '.join(selection.names)})"
            for selection, plan in zip(selections, plans)
        )
        raise InvalidFieldException(
            f"The `{OciImagePackagesField.alias}` field in target {image} mixes packages of several resolves that are built "
            f"in different bases, which one image cannot hold: {listed}. `[opam].resolves_to_base` decides on it."
        )


@rule(desc="Build the packages of an image", level=LogLevel.DEBUG)
async def build_image_parts(request: ImagePartsRequest, opam: OpamSubsystem) -> ImageParts:
    """Build all packages of an image and what they stand on. Raises PackagesFailedError, InvalidFieldException, LayerError."""
    field_set = request.field_set
    image = field_set.address
    selections = packages_by_resolve(
        image, await targets_of(await addresses_of(field_set.packages.to_unparsed_address_inputs()))
    )
    plans = await concurrently(
        plan_build(BuildPlanRequest(selection.resolve), **implicitly()) for selection in selections
    )
    check_bases(image, selections, plans)
    if field_set.base.value is not None:
        given = await parse_address(
            AddressInput.parse(
                field_set.base.value,
                relative_to=image.spec_path,
                description_of_origin=f"the `{OciImageBaseField.alias}` field of {image}",
            )
        )
        if given != plans[0].rootfs.address:
            raise InvalidFieldException(
                f"The `{OciImageBaseField.alias}` field in target {image} is {given}, but its packages are of the resolve "
                f"`{selections[0].resolve}`, which `[opam].resolves_to_base` builds in {plans[0].rootfs.address}. Packages "
                "run only on the base that they were built in: leave the field out, or take packages of a resolve with "
                "that base."
            )
    locks = {selection.resolve: plan.lock for selection, plan in zip(selections, plans)}
    packages = union_of(image, selections, locks)
    asked = [(resolve, union.package.name) for union in packages for resolve in union.resolves]
    for plan, selection in zip(plans, selections):
        plan.wanted.add(union.package.name for union in packages if selection.resolve in union.resolves)
    outcomes = await concurrently(
        build_package_layer(PackageLayerRequest(resolve, name), **implicitly()) for resolve, name in asked
    )
    check_outcomes(image, outcomes)
    layers = {name: outcome.layers[name] for (_, name), outcome in zip(asked, outcomes)}
    for (resolve, name), outcome in zip(asked, outcomes):
        if outcome.layers[name].diff_id != layers[name].diff_id:
            raise LayerError(
                f"{image}: {name} is another layer in the resolve `{resolve}` than in {', '.join(sorted(locks))}, although "
                "it is locked the same. Something in its build is not reproducible"
                + (
                    ", or their `opam_project` targets give it other `sources`."
                    if locks[resolve].packages[name].local
                    else "."
                )
            )
    ground = await make_foundation(FoundationRequest(plans[0].debian_lock), **implicitly())
    return ImageParts(
        address=image,
        selections=selections,
        plan=plans[0],
        ground=ground,
        packages=tuple(packages),
        layers=tuple(layers[union.package.name] for union in packages),
        debs=tuple(
            sorted(
                {locks[union.resolves[0]].debs[name] for union in packages for name in union.package.debs},
                key=lambda deb: (deb.name, deb.version),
            )
        ),
        overlapping_files=tuple(sorted({*field_set.overlapping_files.value, *opam.overlapping_files})),
    )


def rules() -> list[object]:
    return [*collect_rules()]
