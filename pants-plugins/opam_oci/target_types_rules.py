"""Targets made of lockfiles."""

from __future__ import annotations

from typing import Any

from pants.core.goals.generate_lockfiles import GenerateLockfilesSubsystem
from pants.core.goals.tailor import TailorSubsystem
from pants.core.goals.update_build_files import UpdateBuildFilesSubsystem
from pants.engine.addresses import Address, AddressInput
from pants.engine.target import GeneratedTargets, GenerateTargetsRequest, InvalidFieldException
from pants.engine.unions import UnionMembership, UnionRule
from pants.util.docutil import bin_name

from opam_oci.fields.opam import (
    OpamPackageDependenciesField,
    OpamPackageNameField,
    OpamPackagesOverridesField,
    OpamPackageVersionField,
    OpamResolveField,
)
from opam_oci.fields.testing import OpamSkipLockedTestsField, OpamTestTimeoutField
from opam_oci.pants_engine.calls import executing_goals, parse_address
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import LockfileError, OpamLock
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.resolves.package_addresses import PackageTargetsRequest, find_package_targets
from opam_oci.resolves.targets import address_text
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.target_types import OpamPackagesTarget, OpamPackageTarget
from opam_oci.target_types_files import OPAM_LOCKFILE, addresses_of_lockfile

# What `overrides` may say of a package; the lockfile says the rest.
OVERRIDDEN = frozenset(("description", "tags", OpamSkipLockedTestsField.alias, OpamTestTimeoutField.alias))


# Goals that look at all targets, and need no lockfile: `generate-lockfiles` is about to write it, `opam-ci` reports what is wrong
# with one and goes on with the others, for the rest BUILD files are all that counts.
WITHOUT_LOCKFILES = (GenerateLockfilesSubsystem.name, TailorSubsystem.name, UpdateBuildFilesSubsystem.name, "opam-ci")


class GenerateOpamPackages(GenerateTargetsRequest):
    """Asks for the targets of an `opam_packages`."""

    generate_from = OpamPackagesTarget


def package_overrides(request: GenerateOpamPackages, lock: OpamLock) -> dict[str, dict[str, Any]]:
    """The field `overrides` by package. Raises InvalidFieldException for what no package has, or what the lockfile says."""
    field = f"The `{OpamPackagesOverridesField.alias}` field in target {request.template_address}"
    found: dict[str, dict[str, Any]] = {}
    for package, variants in request.overrides.items():
        if package not in lock.packages or lock.packages[package].local:
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
                f"{', '.join(f'`{alias}`' for alias in sorted(OVERRIDDEN))}, and the lockfile says everything else."
            )
    return found


async def runs_without_lockfiles() -> bool:
    """Whether a goal of this run is one that needs none."""
    goals = await executing_goals()
    return any(goals.is_running(name) for name in WITHOUT_LOCKFILES)


async def ground_of_packages(resolve: str, opam: OpamSubsystem) -> list[Address]:
    """What all packages of a resolve depend on: its base, and the target that owns its lockfile."""
    base = await parse_address(
        AddressInput.parse(opam.base_of(resolve), description_of_origin="`[opam].resolves_to_base`")
    )
    return [base, *addresses_of_lockfile(OPAM_LOCKFILE, resolve, opam.resolves)]


@rule
async def generate_opam_packages(
    request: GenerateOpamPackages, opam: OpamSubsystem, union_membership: UnionMembership
) -> GeneratedTargets:
    """One `opam_package` for each package of a lockfile that is not built from this repository.

    Raises LockfileError, InvalidFieldException.
    """
    generator = request.generator
    resolve = request.template.get(OpamResolveField.alias) or opam.default_resolve
    try:
        lock = await read_opam_lockfile(OpamLockRequest(resolve), **implicitly())
    except LockfileError:
        if await runs_without_lockfiles():
            return GeneratedTargets(generator, ())
        raise
    overrides = package_overrides(request, lock)
    targets = await find_package_targets(PackageTargetsRequest(resolve, request.template_address), **implicitly())
    files = await ground_of_packages(resolve, opam)
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
                        map(address_text, {*targets.dependencies[package.name], *files})
                    ),
                },
                request.template_address.create_generated(package.name),
                union_membership,
                residence_dir=generator.address.spec_path,
                description_of_origin=f"the lockfile {lock.path}",
            )
            for package in lock.packages.values()
            if not package.local
        ),
    )


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(GenerateTargetsRequest, GenerateOpamPackages)]
