"""The targets of the OCaml projects in this repository, made of their opam files and of lockfiles."""

from __future__ import annotations

from pants.core.target_types import TargetGeneratorSourcesHelperSourcesField, TargetGeneratorSourcesHelperTarget
from pants.engine.target import GeneratedTargets, GenerateTargetsRequest, InvalidTargetException, Target
from pants.engine.unions import UnionMembership, UnionRule

from opam_oci.fields.opam import (
    OpamPackageDependenciesField,
    OpamPackageNameField,
    OpamPackageVersionField,
    OpamResolveField,
)
from opam_oci.fields.projects import OpamProjectFileField, OpamProjectSourcesField
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import LockedPackage, LockfileError, OpamLock, regenerate_command
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.resolves.package_addresses import PackageTargetsRequest, find_package_targets
from opam_oci.resolves.projects import OpamProject, find_opam_projects, opam_file_address
from opam_oci.resolves.targets import address_text
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.target_types_projects import OpamLocalPackageTarget, OpamProjectTarget
from opam_oci.target_types_rules import ground_of_packages, runs_without_lockfiles


class GenerateOpamLocalPackages(GenerateTargetsRequest):
    """Asks for the targets of an `opam_project`."""

    generate_from = OpamProjectTarget


def packages_of(project: OpamProject, lock: OpamLock) -> list[LockedPackage]:
    """The project's packages in a lockfile. Raises LockfileError where it lacks one."""
    by_file = {package.local: package for package in lock.packages.values() if package.local}
    missing = [path for path in project.files if path not in by_file]
    if missing:
        raise LockfileError(
            lock.path,
            f"it has no package of {missing[0]}, which {project.address} builds. Bring it up to date with "
            f"`{regenerate_command(lock.resolve)}`.",
        )
    return [by_file[path] for path in project.files]


def opam_file_targets(
    request: GenerateOpamLocalPackages, project: OpamProject, union_membership: UnionMembership
) -> list[Target]:
    """One target for each opam file, which nothing but the lockfile depends on: it is made anew after a change of that file
    alone, and not after one of other sources."""
    return [
        TargetGeneratorSourcesHelperTarget(
            {TargetGeneratorSourcesHelperSourcesField.alias: path[len(project.directory) :].lstrip("/")},
            opam_file_address(project, path),
            union_membership,
            residence_dir=request.generator.address.spec_path,
            description_of_origin=f"the `{OpamProjectTarget.alias}` target {project.address}",
        )
        for path in project.files
    ]


@rule
async def generate_opam_local_packages(
    request: GenerateOpamLocalPackages, opam: OpamSubsystem, union_membership: UnionMembership
) -> GeneratedTargets:
    """One `opam_local_package` for each opam file of a project. Raises InvalidTargetException, LockfileError."""
    generator = request.generator
    resolve = request.template.get(OpamResolveField.alias) or opam.default_resolve
    projects = await find_opam_projects(**implicitly())
    project = next(one for one in projects.by_resolve[resolve] if one.address == request.template_address)
    try:
        files = opam_file_targets(request, project.checked(), union_membership)
        lock = await read_opam_lockfile(OpamLockRequest(resolve), **implicitly())
        packages = packages_of(project, lock)
    except (InvalidTargetException, LockfileError):
        if await runs_without_lockfiles():
            return GeneratedTargets(generator, ())
        raise
    targets = await find_package_targets(PackageTargetsRequest(resolve), **implicitly())
    ground = await ground_of_packages(resolve, opam)
    sources = generator[OpamProjectSourcesField].value
    return GeneratedTargets(
        generator,
        [
            *files,
            *(
                OpamLocalPackageTarget(
                    {
                        **request.template,
                        OpamPackageNameField.alias: package.name,
                        OpamPackageVersionField.alias: package.version,
                        OpamResolveField.alias: resolve,
                        OpamProjectSourcesField.alias: sources,
                        OpamProjectFileField.alias: package.local,
                        OpamPackageDependenciesField.alias: sorted(
                            map(address_text, {*targets.dependencies[package.name], *ground})
                        ),
                    },
                    request.template_address.create_generated(package.name),
                    union_membership,
                    residence_dir=generator.address.spec_path,
                    description_of_origin=f"the lockfile {lock.path}",
                )
                for package in packages
            ),
        ],
    )


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(GenerateTargetsRequest, GenerateOpamLocalPackages)]
