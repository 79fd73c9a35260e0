"""The dependencies that images, and tests of images, have without naming them."""

from __future__ import annotations

from dataclasses import dataclass

from pants.engine.addresses import Address, AddressInput
from pants.engine.target import FieldSet, InferDependenciesRequest, InferredDependencies
from pants.engine.unions import UnionRule

from opam_oci.fields.image import OciImageBaseField, OciImageLayersField, OciImagePackagesField, OciImageSharedWithField
from opam_oci.fields.image_tests import OciTestImageField
from opam_oci.fields.runtime_image import OciImageRuntimeBaseField, OciImageRuntimeField
from opam_oci.images.layering import shared_with
from opam_oci.images.packages import PackageSelection, packages_by_resolve
from opam_oci.pants_engine.calls import addresses_of, parse_address, targets_of
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import OpamLock
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.resolves.package_addresses import PackageTargetsRequest, find_package_targets, generator_of
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class ImageDependenciesFieldSet(FieldSet):
    required_fields = (OciImagePackagesField, OciImageBaseField)

    packages: OciImagePackagesField
    base: OciImageBaseField
    layers: OciImageLayersField
    shared_with: OciImageSharedWithField
    runtime: OciImageRuntimeField
    runtime_base: OciImageRuntimeBaseField


class InferImageDependencies(InferDependenciesRequest):
    """Asks for the dependencies of an image that its fields do not name."""

    infer_from = ImageDependenciesFieldSet


def generator_for(selection: PackageSelection, lock: OpamLock) -> Address | None:
    """The `opam_packages` target that made the packages which an image names; None where it names those of projects alone."""
    for address in selection.addresses:
        package = lock.packages.get(address.generated_name or "")
        if package is not None and not package.local:
            return generator_of(address)
    return None


async def runtime_base_of(field_set: ImageDependenciesFieldSet) -> set[Address]:
    """The base that a runtime image stands on; none for other images, or where the field is forgotten."""
    text = field_set.runtime_base.value
    if not field_set.runtime.value or text is None:
        return set()
    base = await parse_address(
        AddressInput.parse(
            text,
            relative_to=field_set.address.spec_path,
            description_of_origin=f"the `{OciImageRuntimeBaseField.alias}` field of {field_set.address}",
        )
    )
    return {base}


async def packages_shared_with(field_set: ImageDependenciesFieldSet) -> set[Address]:
    """The packages of images that this one is grouped with: they decide on its layers, too.

    Not those images themselves: they may name each other, and Pants allows no cycle of dependencies.
    """
    if field_set.layers.value != "grouped":
        return set()
    return {
        address
        for image in await shared_with(field_set)
        for address in await addresses_of(image.packages.to_unparsed_address_inputs())
    }


async def tested_image(address: Address, image: OciTestImageField) -> Address:
    """The address that a test's field names."""
    return await parse_address(
        AddressInput.parse(
            image.value,
            relative_to=address.spec_path,
            description_of_origin=f"the `{image.alias}` field of {address}",
        )
    )


@rule
async def infer_image_dependencies(request: InferImageDependencies, opam: OpamSubsystem) -> InferredDependencies:
    """The bases, the packages of images that share layers, packages that `packages` does not reach along targets.

    The last are post-dependencies on a cycle, which `opam_package` targets leave out. Raises InvalidFieldException.
    """
    field_set = request.field_set
    addresses = await addresses_of(field_set.packages.to_unparsed_address_inputs())
    selections = packages_by_resolve(field_set.address, await targets_of(addresses))
    found = await runtime_base_of(field_set) | await packages_shared_with(field_set)
    for selection in selections:
        base = await parse_address(
            AddressInput.parse(
                field_set.base.value or opam.base_of(selection.resolve),
                relative_to=field_set.address.spec_path,
                description_of_origin=f"the `{OciImageBaseField.alias}` field of {field_set.address}",
            )
        )
        lock = await read_opam_lockfile(OpamLockRequest(selection.resolve), **implicitly())
        unreached = set(lock.image_closure(selection.names)) - lock.reached_by_targets(selection.names)
        targets = await find_package_targets(
            PackageTargetsRequest(selection.resolve, generator_for(selection, lock)), **implicitly()
        )
        found |= {base, *(targets.addresses[name] for name in unreached if name in targets.addresses)}
    return InferredDependencies(sorted(found))


@dataclass(frozen=True)
class ImageTestDependenciesFieldSet(FieldSet):
    required_fields = (OciTestImageField,)

    image: OciTestImageField


class InferImageTestDependencies(InferDependenciesRequest):
    """Asks for the image that a test is of."""

    infer_from = ImageTestDependenciesFieldSet


@rule
async def infer_image_test_dependencies(request: InferImageTestDependencies) -> InferredDependencies:
    """The image."""
    return InferredDependencies([await tested_image(request.field_set.address, request.field_set.image)])


def rules() -> list[object]:
    return [
        *collect_rules(),
        UnionRule(InferDependenciesRequest, InferImageDependencies),
        UnionRule(InferDependenciesRequest, InferImageTestDependencies),
    ]
