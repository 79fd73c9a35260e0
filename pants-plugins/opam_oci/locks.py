"""Rules that read lockfiles and compare them with what BUILD files and options ask for."""

from __future__ import annotations

import dataclasses

from pants.base.specs import AddressLiteralSpec, RawSpecsWithoutFileOwners, RecursiveGlobSpec
from pants.engine.addresses import Address, AddressInput
from pants.engine.fs import PathGlobs
from pants.engine.target import (
    InvalidTargetException,
    Target,
    UnexpandedTargets,
    WrappedTargetRequest,
)
from pants.util.docutil import bin_name
from pants.util.frozendict import FrozenDict

from opam_oci.engine import (
    address_families,
    collect_rules,
    contents_of_globs,
    parse_address,
    requirement_targets,
    rule,
    target_at,
    targets_of_type,
    unexpanded_targets,
)
from opam_oci.lockfile import (
    DebianLock,
    LockfileError,
    OpamLock,
    read_debian_lock,
    read_opam_lock,
)
from opam_oci.products import (
    DebianLockRequest,
    DebianRootfs,
    DebianRootfsRequest,
    LocalOpamFile,
    OpamLockRequest,
    RepositoryFingerprints,
    RequirementTargets,
    ResolveInputs,
    ResolveInputsRequest,
    SolverOptions,
    TargetsOfTypeRequest,
)
from opam_oci.subsystems import DebianSubsystem, OpamSubsystem
from opam_oci.target_types import (
    DebianArchitectureField,
    DebianPackagesField,
    DebianResolveField,
    DebianRootfsTarget,
    DebianSuiteField,
    OpamConstraintsField,
    OpamFileField,
    OpamRequirementsField,
    OpamRequirementTarget,
    OpamResolveField,
)


class StaleLockfileError(LockfileError):
    """A lockfile that was made for other targets or options than there are now."""


def regenerate_command(resolve: str) -> str:
    return f"{bin_name()} generate-lockfiles --resolve={resolve}"


def missing_lockfile(path: str, resolve: str) -> LockfileError:
    return LockfileError(
        path, f"it does not exist. The resolve `{resolve}` needs it; write it with `{regenerate_command(resolve)}`."
    )


@dataclasses.dataclass(frozen=True)
class _Difference:
    """What a lockfile was made for, and what is asked for now."""

    subject: str
    locked: str | tuple[str, ...]
    wanted: str | tuple[str, ...]

    def __str__(self) -> str:
        if isinstance(self.locked, str) or isinstance(self.wanted, str):
            return f"{self.subject}: the lockfile has {self.locked}, the target asks for {self.wanted}"
        added = sorted(set(self.wanted) - set(self.locked))
        removed = sorted(set(self.locked) - set(self.wanted))
        parts = []
        if added:
            parts.append(f"not in the lockfile: {', '.join(added)}")
        if removed:
            parts.append(f"no longer asked for: {', '.join(removed)}")
        if not parts:
            parts.append(f"in another order: {', '.join(self.wanted)}")
        return f"{self.subject}: {'; '.join(parts)}"


def check_fresh(path: str, resolve: str, differences: list[_Difference]) -> None:
    """Raise StaleLockfileError if any of the pairs differ."""
    changed = [d for d in differences if d.locked != d.wanted]
    if changed:
        listed = "".join(f"\n  * {d}" for d in changed)
        raise StaleLockfileError(
            path, f"it is out of date.{listed}\nBring it up to date with `{regenerate_command(resolve)}`."
        )


@rule
async def find_debian_rootfs(request: DebianRootfsRequest) -> DebianRootfs:
    address: Address = await parse_address(AddressInput.parse(request.address, description_of_origin=request.origin))
    wrapped = await target_at(WrappedTargetRequest(address, description_of_origin=request.origin))
    target: Target = wrapped.target
    if not target.has_field(DebianSuiteField):
        raise InvalidTargetException(
            f"{request.origin} names {address}, which is a `{target.alias}`; it must be a `{DebianRootfsTarget.alias}`."
        )
    return debian_rootfs_of(target)


def debian_rootfs_of(target: Target) -> DebianRootfs:
    return DebianRootfs(
        address=target.address,
        resolve=target[DebianResolveField].value_or_default(target.address),
        suite=target[DebianSuiteField].value,
        architecture=target[DebianArchitectureField].value,
        packages=tuple(sorted(set(target[DebianPackagesField].value))),
    )


@rule
async def read_fresh_debian_lock(request: DebianLockRequest, debian: DebianSubsystem) -> DebianLock:
    rootfs = request.rootfs
    path = debian.lockfile_of(rootfs.resolve, f"the target {rootfs.address}")
    contents = await contents_of_globs(PathGlobs([path]))
    if not contents:
        raise missing_lockfile(path, rootfs.resolve)
    lock = read_debian_lock(path, rootfs.resolve, contents[0].content)
    check_debian_lock_fresh(lock, rootfs)
    return lock


def check_debian_lock_fresh(lock: DebianLock, rootfs: DebianRootfs) -> None:
    """Raise StaleLockfileError if the lockfile was made for a target with other fields."""
    check_fresh(
        lock.path,
        lock.resolve,
        [
            _Difference("suite", lock.suite, rootfs.suite),
            _Difference("architecture", lock.architecture, rootfs.architecture),
            _Difference("packages", tuple(sorted(set(lock.packages))), rootfs.packages),
        ],
    )


@rule
async def read_opam_lockfile(request: OpamLockRequest, opam: OpamSubsystem) -> OpamLock:
    path = opam.lockfile_of(request.resolve, "a target or `[opam].default_resolve`")
    contents = await contents_of_globs(PathGlobs([path]))
    if not contents:
        raise missing_lockfile(path, request.resolve)
    return read_opam_lock(path, request.resolve, contents[0].content)


@rule
async def find_targets_of_type(request: TargetsOfTypeRequest) -> UnexpandedTargets:
    """Finds targets without expanding any target generator.

    The usual ways to all targets of a project also expand `opam_packages`, which needs the lockfile that is perhaps
    about to be written from what is found here.
    """
    origin = f"the search for `{request.alias}` targets"
    families = await address_families(
        RawSpecsWithoutFileOwners(recursive_globs=(RecursiveGlobSpec(""),), description_of_origin=origin)
    )
    literals = sorted(
        (address.spec_path, address.target_name)
        for family in families
        for address, adaptor in family.addresses_to_target_adaptors.items()
        if adaptor.type_alias == request.alias
    )
    targets: UnexpandedTargets = await unexpanded_targets(
        RawSpecsWithoutFileOwners(
            address_literals=tuple(AddressLiteralSpec(path, name) for path, name in literals),
            description_of_origin=origin,
        )
    )
    return targets


async def read_opam_files(files: list[tuple[Address, str]]) -> tuple[LocalOpamFile, ...]:
    """The files that targets name, sorted by path. Raises InvalidTargetException for one that is not there."""
    contents = await contents_of_globs(PathGlobs(sorted({path for _, path in files})))
    found = {file.path: LocalOpamFile(file.path, file.content) for file in contents}
    names: dict[str, str] = {}
    for address, path in files:
        if path not in found:
            raise InvalidTargetException(
                f"The `{OpamFileField.alias}` field in target {address} names {path}, which does not exist."
            )
        other = names.setdefault(found[path].package, path)
        if other != path:
            raise InvalidTargetException(
                f"{path} and {other} are opam files of one package in one resolve; give one of them another `resolve`."
            )
    return tuple(found[path] for path in sorted(found))


# Once for all resolves, of which there may be thousands.
@rule
async def find_requirement_targets(opam: OpamSubsystem) -> RequirementTargets:
    by_resolve: dict[str, list[Target]] = {}
    targets: UnexpandedTargets = await targets_of_type(TargetsOfTypeRequest(OpamRequirementTarget.alias))
    for target in targets:
        by_resolve.setdefault(target[OpamResolveField].value_or_default(opam), []).append(target)
    return RequirementTargets(FrozenDict({resolve: tuple(found) for resolve, found in by_resolve.items()}))


@rule
async def find_resolve_inputs(request: ResolveInputsRequest, opam: OpamSubsystem) -> ResolveInputs:
    targets: RequirementTargets = await requirement_targets()
    requirements: set[str] = set()
    constraints: set[str] = set()
    files: list[tuple[Address, str]] = []
    ocaml = opam.ocaml_of(request.resolve)
    for target in targets.by_resolve.get(request.resolve, ()):
        requirements.update("".join(r.split()) for r in target[OpamRequirementsField].value)
        path = target[OpamFileField].file_path
        if path is not None:
            files.append((target.address, path))
        constraints.update("".join(c.split()) for c in target[OpamConstraintsField].value)
    opam_files = await read_opam_files(files)
    if ocaml is not None and (requirements or files):
        requirements.add(ocaml)
    base = await parse_address(
        AddressInput.parse(opam.base_of(request.resolve), description_of_origin="`[opam].resolves_to_base`")
    )
    return ResolveInputs(
        resolve=request.resolve,
        requirements=tuple(sorted(requirements)),
        constraints=tuple(sorted(constraints)),
        base=base,
        options=SolverOptions(**opam.solver_options(request.resolve)),
        opam_files=opam_files,
    )


def check_opam_lock_fresh(lock: OpamLock, inputs: ResolveInputs, fingerprints: RepositoryFingerprints | None) -> None:
    """Raise StaleLockfileError if the lockfile was made for other roots, bounds, options, repositories or another base.

    `fingerprints`: None leaves the repositories out. So does a lockfile that does not say for which it was made.
    """
    differences = [
        _Difference("requirements", tuple(sorted(lock.requirements)), inputs.requirements),
        _Difference("constraints", tuple(sorted(lock.constraints)), inputs.constraints),
        _Difference("base", lock.base, address_text(inputs.base)),
        _Difference("options", lock.options, inputs.options.lines()),
        _Difference("opam files", lock.opam_files, tuple(file.line() for file in inputs.opam_files)),
    ]
    if lock.repositories is not None and fingerprints is not None:
        differences.append(_Difference("repositories", lock.repositories, fingerprints.lines))
    check_fresh(lock.path, lock.resolve, differences)


def address_text(address: Address) -> str:
    """How lockfiles and messages write an address."""
    return address.spec if address.spec.startswith("//") else f"//{address.spec}"


def rules() -> list[object]:
    return [*collect_rules()]
