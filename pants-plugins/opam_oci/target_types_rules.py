"""Targets made of lockfiles, and the dependencies that images have without naming them."""

from __future__ import annotations

from dataclasses import dataclass

from pants.core.goals.generate_lockfiles import GenerateLockfilesSubsystem
from pants.engine.addresses import AddressInput
from pants.engine.target import (
    FieldSet,
    GeneratedTargets,
    GenerateTargetsRequest,
    InferDependenciesRequest,
    InferredDependencies,
)
from pants.engine.unions import UnionMembership, UnionRule

from opam_oci.fields.image import OciImageBaseField, OciImagePackagesField
from opam_oci.fields.opam import (
    OpamPackageDependenciesField,
    OpamPackageNameField,
    OpamPackageVersionField,
    OpamResolveField,
)
from opam_oci.images.packages import packages_by_resolve
from opam_oci.pants_engine.calls import addresses_of, executing_goals, parse_address, targets_of
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import LockfileError
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.resolves.targets import address_text
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.target_types import OpamPackagesTarget, OpamPackageTarget


class GenerateOpamPackages(GenerateTargetsRequest):
    """Asks for the targets of an `opam_packages`."""

    generate_from = OpamPackagesTarget


@rule
async def generate_opam_packages(
    request: GenerateOpamPackages, opam: OpamSubsystem, union_membership: UnionMembership
) -> GeneratedTargets:
    """One `opam_package` for each package of a lockfile. Raises LockfileError."""
    generator = request.generator
    resolve = generator[OpamResolveField].value_or_default(opam)
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
    addresses = {name: request.template_address.create_generated(name) for name in lock.packages}
    post_depends = lock.acyclic_post_depends()
    return GeneratedTargets(
        generator,
        (
            OpamPackageTarget(
                {
                    **request.template,
                    OpamPackageNameField.alias: package.name,
                    OpamPackageVersionField.alias: package.version,
                    OpamResolveField.alias: resolve,
                    OpamPackageDependenciesField.alias: sorted(
                        {address_text(addresses[d]) for d in (*package.depends, *post_depends[package.name])}
                        | {address_text(base)}
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


class InferImageDependencies(InferDependenciesRequest):
    """Asks for the dependencies of an image that its fields do not name."""

    infer_from = ImageDependenciesFieldSet


@rule
async def infer_image_dependencies(request: InferImageDependencies, opam: OpamSubsystem) -> InferredDependencies:
    """The base, and the packages that are in the image without being reached from `packages` along targets.

    Those are post-dependencies on a cycle, which `opam_package` targets leave out.
    """
    addresses = await addresses_of(request.field_set.packages.to_unparsed_address_inputs())
    targets = await targets_of(addresses)
    selections = packages_by_resolve(request.field_set.address, targets)
    found = set()
    for selection in selections:
        base = await parse_address(
            AddressInput.parse(
                request.field_set.base.value or opam.base_of(selection.resolve),
                relative_to=request.field_set.address.spec_path,
                description_of_origin=f"the `{OciImageBaseField.alias}` field of {request.field_set.address}",
            )
        )
        lock = await read_opam_lockfile(OpamLockRequest(selection.resolve), **implicitly())
        unreached = set(lock.image_closure(selection.names)) - lock.reached_by_targets(selection.names)
        generator = selection.example.maybe_convert_to_target_generator()
        found |= {base, *(generator.create_generated(name) for name in unreached)}
    return InferredDependencies(sorted(found))


def rules() -> list[object]:
    return [
        *collect_rules(),
        UnionRule(GenerateTargetsRequest, GenerateOpamPackages),
        UnionRule(InferDependenciesRequest, InferImageDependencies),
    ]
