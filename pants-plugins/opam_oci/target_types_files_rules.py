"""Makes the targets of target_types_files.py, and says what depends on what among them."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Iterable, Iterator

from pants.engine.addresses import AddressInput
from pants.engine.internals.synthetic_targets import SyntheticAddressMaps, SyntheticTargetsRequest
from pants.engine.internals.target_adaptor import TargetAdaptor
from pants.engine.target import FieldSet, InferDependenciesRequest, InferredDependencies
from pants.engine.unions import UnionRule

from opam_oci.fields.debian import DebianResolveField, DebianSuiteField
from opam_oci.fields.health import OpamHealthBaseField, OpamHealthResolveField
from opam_oci.fields.opam import OpamResolveField
from opam_oci.pants_engine.calls import parse_address
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.inputs import find_requirement_targets
from opam_oci.resolves.opam_repositories import InvalidRepositoryError, parse_location
from opam_oci.resolves.projects import find_opam_projects, opam_file_address
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_health import OpamHealthSubsystem
from opam_oci.target_types_files import (
    DEBIAN_LOCKFILE,
    OPAM_HEALTH_LOCKFILE,
    OPAM_LOCKFILE,
    OPAM_REPOSITORY,
    DebianLockfileTarget,
    OpamHealthLockfileTarget,
    OpamLockfileSourceField,
    OpamLockfileTarget,
    OpamRepositoryTarget,
    addresses_of_lockfile,
    file_target_address,
    file_target_name,
    path_in_build_root,
)


@dataclass(frozen=True)
class FileTargetsRequest(SyntheticTargetsRequest):
    """Asks for the targets that own files which options name: all at once, as the options say all of them."""

    path: str = SyntheticTargetsRequest.SINGLE_REQUEST_FOR_ALL_TARGETS


def repository_directories(opam: OpamSubsystem) -> Iterator[tuple[str, str]]:
    """Names and directories of the opam repositories in the build root. Locations that make no sense are left to locking."""
    for name, location in sorted(opam.repositories.items()):
        try:
            place = parse_location(name, location)
        except InvalidRepositoryError:
            continue
        if isinstance(place, str) and path_in_build_root(place):
            yield name, place


def file_targets(
    opam: OpamSubsystem, debian: DebianSubsystem, health: OpamHealthSubsystem
) -> Iterator[tuple[str, TargetAdaptor]]:
    """Each target with the path of what it owns.

    Pants takes that path for the BUILD file which has the target, so that `filedeps` names no file that is not there.
    """
    for target_type, kind, option, resolves in (
        (OpamLockfileTarget, OPAM_LOCKFILE, "[opam].resolves", opam.resolves),
        (DebianLockfileTarget, DEBIAN_LOCKFILE, "[debian].resolves", debian.resolves),
        (OpamHealthLockfileTarget, OPAM_HEALTH_LOCKFILE, "[opam-health].resolves", health.resolves),
    ):
        for resolve, path in sorted(resolves.items()):
            if short := path_in_build_root(path):
                more = {"resolve": resolve} if target_type is OpamLockfileTarget else {}
                yield (
                    short,
                    TargetAdaptor(
                        target_type.alias,
                        name=file_target_name(kind, resolve),
                        source=posixpath.basename(short),
                        __description_of_origin__=f"`{option}`, {resolve!r}",
                        **more,
                    ),
                )
    for name, directory in repository_directories(opam):
        yield (
            directory,
            TargetAdaptor(
                OpamRepositoryTarget.alias,
                name=file_target_name(OPAM_REPOSITORY, name),
                sources=(f"{posixpath.basename(directory)}/**",),
                __description_of_origin__=f"`[opam].repositories`, {name!r}",
            ),
        )


@rule
async def make_file_targets(
    request: FileTargetsRequest, opam: OpamSubsystem, debian: DebianSubsystem, health: OpamHealthSubsystem
) -> SyntheticAddressMaps:
    """The targets that own lockfiles and opam repositories, whatever state these files are in."""
    found = [(path, (target,)) for path, target in file_targets(opam, debian, health)]
    return SyntheticAddressMaps.for_targets_request(request, found)


@dataclass(frozen=True)
class OpamLockfileFieldSet(FieldSet):
    required_fields = (OpamLockfileSourceField, OpamResolveField)

    resolve: OpamResolveField


class InferLockfileInputs(InferDependenciesRequest):
    """Asks what an opam lockfile is solved from."""

    infer_from = OpamLockfileFieldSet


@rule
async def infer_lockfile_inputs(request: InferLockfileInputs, opam: OpamSubsystem) -> InferredDependencies:
    """The resolve's requirements, with the opam files that they read, those of projects, and the repositories in the build root.

    A change of any makes the lockfile out of date, and every image of it an error until there is a new one.
    """
    resolve = request.field_set.resolve.value_or_default(opam)
    targets = await find_requirement_targets(**implicitly())
    found = [target.address for target in targets.by_resolve.get(resolve, ())]
    projects = await find_opam_projects(**implicitly())
    found += [opam_file_address(one, path) for one in projects.by_resolve.get(resolve, ()) for path in one.files]
    found += [file_target_address(OPAM_REPOSITORY, name, path) for name, path in repository_directories(opam)]
    return InferredDependencies(sorted(found))


@dataclass(frozen=True)
class DebianRootfsDependenciesFieldSet(FieldSet):
    required_fields = (DebianSuiteField, DebianResolveField)

    resolve: DebianResolveField


class InferBaseLockfile(InferDependenciesRequest):
    """Asks for the lockfile of a base."""

    infer_from = DebianRootfsDependenciesFieldSet


@rule
async def infer_base_lockfile(request: InferBaseLockfile, debian: DebianSubsystem) -> InferredDependencies:
    """The lockfile of a base; none where its resolve is not defined, which building it says."""
    field_set = request.field_set
    resolve = field_set.resolve.value_or_default(field_set.address)
    return InferredDependencies(addresses_of_lockfile(DEBIAN_LOCKFILE, resolve, debian.resolves))


@dataclass(frozen=True)
class OpamHealthDependenciesFieldSet(FieldSet):
    required_fields = (OpamHealthBaseField, OpamHealthResolveField)

    base: OpamHealthBaseField
    resolve: OpamHealthResolveField


class InferHealthInputs(InferDependenciesRequest):
    """Asks what a health check is made of."""

    infer_from = OpamHealthDependenciesFieldSet


@rule
async def infer_health_inputs(
    request: InferHealthInputs, opam: OpamSubsystem, health: OpamHealthSubsystem
) -> InferredDependencies:
    """Its base, its lockfile and the repositories in the build root: where any changes, other packages may build."""
    field_set = request.field_set
    resolve = field_set.resolve.value_or_default(field_set.address)
    base = await parse_address(
        AddressInput.parse(
            field_set.base.value,
            relative_to=field_set.address.spec_path,
            description_of_origin=f"the `{OpamHealthBaseField.alias}` field of {field_set.address}",
        )
    )
    found = [base, *addresses_of_lockfile(OPAM_HEALTH_LOCKFILE, resolve, health.resolves)]
    found += [file_target_address(OPAM_REPOSITORY, name, path) for name, path in repository_directories(opam)]
    return InferredDependencies(sorted(found))


def rules() -> Iterable[object]:
    return [
        *collect_rules(),
        *FileTargetsRequest.rules(),
        UnionRule(InferDependenciesRequest, InferLockfileInputs),
        UnionRule(InferDependenciesRequest, InferBaseLockfile),
        UnionRule(InferDependenciesRequest, InferHealthInputs),
    ]
