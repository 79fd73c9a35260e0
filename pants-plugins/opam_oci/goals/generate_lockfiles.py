"""`generate-lockfiles` for bases (`[debian].resolves`) and for opam packages (`[opam].resolves`).

The tool writes lockfiles in processes that may use the network and whose results are never cached: whoever asks for a
new lockfile wants today's."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from typing import Iterable

from pants.core.goals.generate_lockfiles import (
    GenerateLockfile,
    GenerateLockfileResult,
    GenerateLockfilesSubsystem,
    KnownUserResolveNames,
    KnownUserResolveNamesRequest,
    LockfileDiff,
    LockfilePackages,
    RequestedUserResolveNames,
    UserGenerateLockfiles,
    WrappedGenerateLockfile,
)
from pants.engine.fs import CreateDigest, DigestSubset, FileContent, PathGlobs
from pants.engine.target import InvalidTargetException
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.layers.foundation import FoundationRequest, make_foundation
from opam_oci.locking.steps import (
    DebianIndexes,
    DebianIndexesRequest,
    DebianLockTextRequest,
    PreparedRepositories,
    PreparedRepositoriesRequest,
    lock_call,
    lock_debian,
    prepare_repositories,
    read_debian_indexes,
    read_output,
    require_host,
    require_mirrors,
    run_step,
)
from opam_oci.locking.versions import Version
from opam_oci.pants_engine.calls import contents_of_globs, create_digest, digest_subset_to_digest
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.debian_rootfs import DebianRootfs, DebianRootfsRequest, debian_rootfs_of, find_debian_rootfs
from opam_oci.resolves.freshness import check_debian_lock_fresh, check_opam_lock_fresh
from opam_oci.resolves.inputs import ResolveInputsRequest, find_resolve_inputs
from opam_oci.resolves.lockfile import DebianLock, LockfileError
from opam_oci.resolves.lockfile_reader import read_debian_lock, read_opam_lock
from opam_oci.resolves.locks import DebianLockRequest, read_fresh_debian_lock
from opam_oci.resolves.opam_repositories import InvalidRepositoryError, find_fingerprints
from opam_oci.resolves.targets import TargetsOfTypeRequest, address_text, find_targets_of_type
from opam_oci.sandbox.process import layer_paths
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem, OutOfReach
from opam_oci.target_types import DebianRootfsTarget, OpamRequirementTarget

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GenerateDebianLockfile(GenerateLockfile):
    rootfs: DebianRootfs


@dataclass(frozen=True)
class GenerateOpamLockfile(GenerateLockfile):
    # Whether the base's lockfile is written in the same run: then the new one counts, not the one on disk.
    with_base: bool


@rule
def wrap_debian_request(request: GenerateDebianLockfile) -> WrappedGenerateLockfile:
    return WrappedGenerateLockfile(request)


@rule
def wrap_opam_request(request: GenerateOpamLockfile) -> WrappedGenerateLockfile:
    return WrappedGenerateLockfile(request)


class KnownDebianResolveNamesRequest(KnownUserResolveNamesRequest):
    pass


class RequestedDebianResolveNames(RequestedUserResolveNames):
    pass


class KnownOpamResolveNamesRequest(KnownUserResolveNamesRequest):
    pass


class RequestedOpamResolveNames(RequestedUserResolveNames):
    pass


@rule
def known_debian_resolves(_: KnownDebianResolveNamesRequest, debian: DebianSubsystem) -> KnownUserResolveNames:
    return KnownUserResolveNames(
        names=tuple(debian.resolves),
        option_name="[debian].resolves",
        requested_resolve_names_cls=RequestedDebianResolveNames,
    )


@rule
def known_opam_resolves(_: KnownOpamResolveNamesRequest, opam: OpamSubsystem) -> KnownUserResolveNames:
    return KnownUserResolveNames(
        names=tuple(opam.resolves),
        option_name="[opam].resolves",
        requested_resolve_names_cls=RequestedOpamResolveNames,
    )


def prints_diff(generate: GenerateLockfilesSubsystem) -> bool:
    """Newer versions of Pants print what changed unless told not to, and so do these lockfiles with any of them."""
    return bool(generate.diff or generate.options.is_default("diff"))


@rule
async def plan_debian_lockfiles(
    requested: RequestedDebianResolveNames, debian: DebianSubsystem, generate: GenerateLockfilesSubsystem
) -> UserGenerateLockfiles:
    targets = await find_targets_of_type(TargetsOfTypeRequest(DebianRootfsTarget.alias), **implicitly())
    by_resolve = rootfs_by_resolve(debian_rootfs_of(target) for target in targets)
    missing = sorted(name for name in requested if name not in by_resolve)
    if missing:
        raise InvalidTargetException(
            f"No `{DebianRootfsTarget.alias}` target has the resolve {' or '.join(f'`{m}`' for m in missing)} of "
            "`[debian].resolves`: add one, or take the resolve out of the option."
        )
    return UserGenerateLockfiles(
        GenerateDebianLockfile(
            resolve_name=name, lockfile_dest=debian.resolves[name], diff=prints_diff(generate), rootfs=by_resolve[name]
        )
        for name in requested
    )


def rootfs_by_resolve(all_rootfs: Iterable[DebianRootfs]) -> dict[str, DebianRootfs]:
    """Raises InvalidTargetException where two bases claim one lockfile."""
    found: dict[str, DebianRootfs] = {}
    for rootfs in all_rootfs:
        other = found.setdefault(rootfs.resolve, rootfs)
        if other is not rootfs:
            raise InvalidTargetException(
                f"{other.address} and {rootfs.address} both have the resolve `{rootfs.resolve}`, but a lockfile is "
                "for one base: give one of them another `resolve`."
            )
    return found


@rule
def plan_opam_lockfiles(
    requested: RequestedOpamResolveNames, opam: OpamSubsystem, generate: GenerateLockfilesSubsystem
) -> UserGenerateLockfiles:
    return UserGenerateLockfiles(
        GenerateOpamLockfile(
            resolve_name=name,
            lockfile_dest=opam.resolves[name],
            diff=prints_diff(generate),
            with_base=not generate.resolve,
        )
        for name in requested
    )


async def result_of(
    request: GenerateLockfile, content: bytes, new: LockfilePackages, old: LockfilePackages
) -> GenerateLockfileResult:
    digest = await create_digest(CreateDigest([FileContent(request.lockfile_dest, content)]))
    diff = (
        LockfileDiff.create(path=request.lockfile_dest, resolve_name=request.resolve_name, old=old, new=new)
        if request.diff
        else None
    )
    return GenerateLockfileResult(digest, request.resolve_name, request.lockfile_dest, diff)


def debian_versions(lockfile: DebianLock) -> LockfilePackages:
    return LockfilePackages({deb.name: Version(deb.version) for deb in lockfile.debs.values()})


def opam_versions(path: str, resolve: str, content: bytes) -> LockfilePackages:
    lock = read_opam_lock(path, resolve, content)
    return LockfilePackages({package.name: Version(package.version) for package in lock.packages.values()})


@rule(desc="Generate Debian lockfile", level=LogLevel.DEBUG)
async def generate_debian_lockfile(request: GenerateDebianLockfile) -> GenerateLockfileResult:
    path, resolve = request.lockfile_dest, request.resolve_name
    text = await lock_debian(DebianLockTextRequest(request.rootfs), **implicitly())
    lock = read_debian_lock(path, resolve, text.content)
    check_debian_lock_fresh(lock, request.rootfs)
    old = LockfilePackages({})
    for file in await contents_of_globs(PathGlobs([path])):
        try:
            old = debian_versions(read_debian_lock(path, resolve, file.content))
        except LockfileError:
            pass  # it is about to be replaced
    return await result_of(request, text.content, debian_versions(lock), old)


@rule(desc="Generate opam lockfile", level=LogLevel.DEBUG)
async def generate_opam_lockfile(
    request: GenerateOpamLockfile,
    opam: OpamSubsystem,
    debian: DebianSubsystem,
    generate: GenerateLockfilesSubsystem,
) -> GenerateLockfileResult:
    """Solving runs in the base, with the opam that will build: so the base is made first."""
    path, resolve = request.lockfile_dest, request.resolve_name
    inputs = await find_resolve_inputs(ResolveInputsRequest(resolve), **implicitly())
    if not inputs.requirements and not inputs.opam_files:
        raise InvalidTargetException(
            f"The resolve `{resolve}` has no roots: add an `{OpamRequirementTarget.alias}` target with "
            f'`resolve="{resolve}"` and `requirements`, or with an opam file as `source`.'
        )
    if not opam.repositories:
        raise InvalidRepositoryError("No opam repository is set: name at least one in `[opam].repositories`.")
    rootfs = await find_debian_rootfs(
        DebianRootfsRequest(address_text(inputs.base), "`[opam].resolves_to_base`"), **implicitly()
    )
    await require_host(opam)
    mirrors = await require_mirrors()
    fingerprints = await find_fingerprints(**implicitly())
    if request.with_base or rootfs.resolve in generate.resolve:
        text = await lock_debian(DebianLockTextRequest(rootfs), **implicitly())
        base_path = debian.lockfile_of(rootfs.resolve, f"the target {rootfs.address}")
        locked = read_debian_lock(base_path, rootfs.resolve, text.content)
    else:
        locked = await read_fresh_debian_lock(DebianLockRequest(rootfs), **implicitly())
    ground = await make_foundation(FoundationRequest(locked), **implicitly())
    prepared: PreparedRepositories
    indexes: DebianIndexes
    prepared, indexes = await concurrently(
        prepare_repositories(PreparedRepositoriesRequest(locked), **implicitly()),
        read_debian_indexes(DebianIndexesRequest(rootfs.suite, rootfs.architecture), **implicitly()),
    )
    purpose = f"generate the lockfile of the resolve `{resolve}`"
    solve = lock_call(
        "lock-opam",
        f"Solve the resolve {resolve}",
        {
            "step": "solve",
            "layers": layer_paths(ground.layers),
            "prepared": "prepared",
            "repositories": list(opam.repositories),
            "requirements": list(inputs.requirements),
            "constraints": list(inputs.constraints),
            "local": [{"name": file.package, "opam": file.text} for file in inputs.opam_files],
            **dataclasses.asdict(inputs.options),
        },
        ("solution.json",),
        layers=ground.layers,
    )
    solution = await run_step(solve, (prepared.digest,), purpose)
    lock = lock_call(
        "lock-opam",
        f"Lock the sources and Debian packages of the resolve {resolve}",
        {
            "step": "lock",
            "resolve": resolve,
            "base": address_text(inputs.base),
            "requirements": list(inputs.requirements),
            "constraints": list(inputs.constraints),
            "options": list(inputs.options.lines()),
            "opam_files": [file.line() for file in inputs.opam_files],
            "repositories": list(fingerprints.lines),
            "solution": "solution.json",
            "base_json": "prepared/base.json",
            "indexes": "indexes.json",
            "sources": "sources.txt",
            "mirrors": list(mirrors.urls),
            "archive_mirrors": list(opam.archive_mirrors),
            "suite": rootfs.suite,
            "architecture": rootfs.architecture,
            "record_out_of_reach": opam.out_of_reach == OutOfReach.RECORD,
        },
        ("lockfile", "notes.json"),
        network=True,
    )
    base_json = await digest_subset_to_digest(DigestSubset(prepared.digest, PathGlobs(["prepared/base.json"])))
    output = await run_step(lock, (solution, indexes.digest, base_json), purpose)
    content = await read_output(output, "lockfile")
    for note in json.loads(await read_output(output, "notes.json")):
        logger.warning(f"The resolve `{resolve}`: {note}")
    check_opam_lock_fresh(read_opam_lock(path, resolve, content), inputs, fingerprints)
    old = LockfilePackages({})
    for file in await contents_of_globs(PathGlobs([path])):
        try:
            old = opam_versions(path, resolve, file.content)
        except LockfileError:
            pass  # it is about to be replaced
    return await result_of(request, content, opam_versions(path, resolve, content), old)


def rules() -> list[object]:
    return [
        *collect_rules(),
        UnionRule(GenerateLockfile, GenerateDebianLockfile),
        UnionRule(GenerateLockfile, GenerateOpamLockfile),
        UnionRule(KnownUserResolveNamesRequest, KnownDebianResolveNamesRequest),
        UnionRule(KnownUserResolveNamesRequest, KnownOpamResolveNamesRequest),
        UnionRule(RequestedUserResolveNames, RequestedDebianResolveNames),
        UnionRule(RequestedUserResolveNames, RequestedOpamResolveNames),
    ]
