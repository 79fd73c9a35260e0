"""Targets made of lockfiles, and the dependencies that images have without naming them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pants.core.goals.generate_lockfiles import GenerateLockfilesSubsystem
from pants.engine.addresses import Address, AddressInput
from pants.engine.target import (
    FieldSet,
    GeneratedTargets,
    GenerateTargetsRequest,
    InferDependenciesRequest,
    InferredDependencies,
    InvalidFieldException,
)
from pants.engine.unions import UnionMembership, UnionRule
from pants.util.docutil import bin_name

from opam_oci.fields.image import OciImageBaseField, OciImageLayersField, OciImagePackagesField, OciImageSharedWithField
from opam_oci.fields.opam import (
    OpamPackageDependenciesField,
    OpamPackageNameField,
    OpamPackagesOverridesField,
    OpamPackageVersionField,
    OpamResolveField,
)
from opam_oci.fields.runtime_image import OciImageRuntimeBaseField, OciImageRuntimeField
from opam_oci.images.layering import shared_with
from opam_oci.images.packages import packages_by_resolve
from opam_oci.pants_engine.calls import addresses_of, executing_goals, parse_address, targets_of
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import LockfileError, OpamLock
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.resolves.targets import address_text
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.target_types import OpamPackagesTarget, OpamPackageTarget
from opam_oci.target_types_files import OPAM_LOCKFILE, addresses_of_lockfile

# What `overrides` may say of a package; the lockfile says the rest.
OVERRIDDEN = frozenset(("description", "tags"))


class GenerateOpamPackages(GenerateTargetsRequest):
    """Asks for the targets of an `opam_packages`."""

    generate_from = OpamPackagesTarget


def package_overrides(request: GenerateOpamPackages, lock: OpamLock) -> dict[str, dict[str, Any]]:
    """The field `overrides` by package. Raises InvalidFieldException for what no package has, or what the lockfile says."""
    field = f"The `{OpamPackagesOverridesField.alias}` field in target {request.template_address}"
    found: dict[str, dict[str, Any]] = {}
    for package, variants in request.overrides.items():
        if package not in lock.packages:
            raise InvalidFieldException(
                f"{field} names {package!r}, which is no package of the lockfile {lock.path}. Take it out, or write the name "
                f"as `{bin_name()} list {request.template_address}` has it after the `#`."
            )
        if len(variants) != 1:
            raise InvalidFieldException(
                f"{field} has `parametrize` for {package!r}: a package of a lockfile is one target. Give it one value."
            )
        found[package] = dict(next(iter(variants.values())))
        locked = sorted(set(found[package]) - OVERRIDDEN)
        if locked:
            raise InvalidFieldException(
                f"{field} sets `{locked[0]}` of {package!r}; it takes "
                f"{' and '.join(f'`{alias}`' for alias in sorted(OVERRIDDEN))}, and the lockfile says everything else."
            )
    return found


@rule
async def generate_opam_packages(
    request: GenerateOpamPackages, opam: OpamSubsystem, union_membership: UnionMembership
) -> GeneratedTargets:
    """One `opam_package` for each package of a lockfile. Raises LockfileError, InvalidFieldException."""
    generator = request.generator
    resolve = request.template.get(OpamResolveField.alias) or opam.default_resolve
    try:
        lock = await read_opam_lockfile(OpamLockRequest(resolve), **implicitly())
    except LockfileError:
        # `generate-lockfiles` looks at all targets, for the sake of other languages: it must get past here to write
        # the lockfile.
        goals = await executing_goals()
        if goals.is_running(GenerateLockfilesSubsystem.name):
            return GeneratedTargets(generator, ())
        raise
    base = await parse_address(
        AddressInput.parse(opam.base_of(resolve), description_of_origin="`[opam].resolves_to_base`")
    )
    overrides = package_overrides(request, lock)
    addresses = {name: request.template_address.create_generated(name) for name in lock.packages}
    post_depends = lock.acyclic_post_depends()
    files = [base, *addresses_of_lockfile(OPAM_LOCKFILE, resolve, opam.resolves)]
    return GeneratedTargets(
        generator,
        (
            OpamPackageTarget(
                {
                    **request.template,
                    **overrides.get(package.name, {}),
                    OpamPackageNameField.alias: package.name,
                    OpamPackageVersionField.alias: package.version,
                    OpamResolveField.alias: resolve,
                    OpamPackageDependenciesField.alias: sorted(
                        {address_text(addresses[d]) for d in (*package.depends, *post_depends[package.name])}
                        | {address_text(file) for file in files}
                    ),
                },
                addresses[package.name],
                union_membership,
                residence_dir=generator.address.spec_path,
                description_of_origin=f"the lockfile {lock.path}",
            )
            for package in lock.packages.values()
        ),
    )


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


def sibling(package: Address, name: str) -> Address:
    """The address of another package of the same lockfile, made by the same target."""
    generator = Address(package.spec_path, target_name=package.target_name, parameters=package.parameters)
    return generator.create_generated(name)


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


@rule
async def infer_image_dependencies(request: InferImageDependencies, opam: OpamSubsystem) -> InferredDependencies:
    """The bases, the packages of images that share layers, and packages that `packages` does not reach along targets.

    The last are post-dependencies on a cycle, which `opam_package` targets leave out.
    """
    field_set = request.field_set
    addresses = await addresses_of(field_set.packages.to_unparsed_address_inputs())
    targets = await targets_of(addresses)
    selections = packages_by_resolve(field_set.address, targets)
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
        found |= {base, *(sibling(selection.example, name) for name in unreached)}
    return InferredDependencies(sorted(found))


def rules() -> list[object]:
    return [
        *collect_rules(),
        UnionRule(GenerateTargetsRequest, GenerateOpamPackages),
        UnionRule(InferDependenciesRequest, InferImageDependencies),
    ]
