"""`generate-lockfiles` for bases (`[debian].resolves`) and for opam packages (`[opam].resolves`).

The tool writes lockfiles in processes that may use the network and whose results are never cached: whoever asks for a
new lockfile wants today's.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

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
from pants.engine.env_vars import EnvironmentVars, EnvironmentVarsRequest
from pants.engine.fs import CreateDigest, Digest, DigestSubset, FileContent, MergeDigests, PathGlobs
from pants.engine.process import ProcessCacheScope
from pants.engine.target import InvalidTargetException
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.engine import (
    collect_rules,
    concurrently,
    contents_of_globs,
    create_digest,
    debian_indexes,
    debian_lock,
    debian_lock_text,
    debian_mirrors,
    debian_rootfs,
    digest_contents,
    digest_subset,
    environment_vars,
    foundation,
    host_check,
    merge_digests,
    opam_repository,
    prepared_repositories,
    repository_fingerprints,
    resolve_inputs,
    rule,
    run_process,
    sandbox_tool,
    targets_of_type,
)
from opam_oci.fetch import NO_MIRROR, FetchError
from opam_oci.host import MissingHostToolsError
from opam_oci.lockfile import DebianLock, LockfileError, read_debian_lock, read_opam_lock
from opam_oci.locks import (
    address_text,
    check_debian_lock_fresh,
    check_opam_lock_fresh,
    debian_rootfs_of,
)
from opam_oci.products import (
    DebianIndexes,
    DebianIndexesRequest,
    DebianLockRequest,
    DebianLockText,
    DebianLockTextRequest,
    DebianRootfs,
    DebianRootfsRequest,
    Foundation,
    FoundationRequest,
    HostCheck,
    HostCheckRequest,
    Layer,
    Mirrors,
    OpamRepository,
    OpamRepositoryRequest,
    PreparedRepositories,
    PreparedRepositoriesRequest,
    RepositoryFingerprints,
    ResolveInputs,
    ResolveInputsRequest,
    SandboxTool,
    TargetsOfTypeRequest,
)
from opam_oci.repositories import NETWORK_VARIABLES, InvalidRepositoryError
from opam_oci.sandbox import Call, layer_paths, request_file, tool_process
from opam_oci.subsystems import DebianSubsystem, OpamSubsystem, OutOfReach
from opam_oci.target_types import DebianRootfsTarget, OpamRequirementTarget
from opam_oci.versions import Version

logger = logging.getLogger(__name__)


class LockError(Exception):
    """A lockfile that could not be made; the message has the tool's, or opam's, reason."""


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
    targets = await targets_of_type(TargetsOfTypeRequest(DebianRootfsTarget.alias))
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


async def run_step(call: Call, digests: Iterable[Digest], purpose: str) -> Digest:
    """What a step of the tool writes. Raises LockError: "Cannot `purpose`" and the tool's reason.

    A step whose results are cached does not use the network, and gets nothing of this machine's environment.
    """
    tool: SandboxTool = await sandbox_tool()
    inputs = await merge_digests(
        MergeDigests([await create_digest(CreateDigest([request_file(call.request)])), *digests])
    )
    env: EnvironmentVars = EnvironmentVars()
    if call.cache_scope == ProcessCacheScope.PER_SESSION:
        env = await environment_vars(EnvironmentVarsRequest(NETWORK_VARIABLES))
    result = await run_process(tool_process(tool, call, inputs, env=env))
    if result.exit_code != 0:
        reason = result.stderr.decode(errors="replace").strip()
        raise LockError(f"Cannot {purpose}:\n{reason}")
    output: Digest = result.output_digest
    return output


async def read_output(digest: Digest, name: str) -> bytes:
    contents = await digest_contents(await digest_subset(DigestSubset(digest, PathGlobs([name]))))
    if not contents:
        raise LockError(f"The sandbox tool wrote no {name}.")
    content: bytes = contents[0].content
    return content


def lock_call(
    command: str,
    description: str,
    values: Mapping[str, Any],
    outputs: tuple[str, ...],
    *,
    layers: tuple[Layer, ...] = (),
    output_directories: tuple[str, ...] = (),
    network: bool = False,
) -> Call:
    """A run of the tool. What uses the network is asked anew in every run, but only once in each."""
    return Call(
        command,
        description,
        {"store": "store", **values},
        layers,
        output_files=outputs,
        output_directories=output_directories,
        cache_scope=ProcessCacheScope.PER_SESSION if network else ProcessCacheScope.SUCCESSFUL,
    )


async def require_mirrors() -> Mirrors:
    mirrors: Mirrors = await debian_mirrors()
    if not mirrors.urls:
        raise FetchError(f"Cannot generate lockfiles: {NO_MIRROR}.")
    return mirrors


async def require_host(opam: OpamSubsystem) -> None:
    if opam.check_host:
        host: HostCheck = await host_check(HostCheckRequest(base=True, lock=True))
        if host.problems:
            raise MissingHostToolsError(host.problems)


@rule(desc="Lock Debian base", level=LogLevel.DEBUG)
async def lock_debian(request: DebianLockTextRequest, opam: OpamSubsystem) -> DebianLockText:
    rootfs = request.rootfs
    await require_host(opam)
    mirrors = await require_mirrors()
    values = {
        "resolve": rootfs.resolve,
        "suite": rootfs.suite,
        "architecture": rootfs.architecture,
        "packages": list(rootfs.packages),
        "mirrors": list(mirrors.urls),
    }
    call = lock_call(
        "lock-debian", f"Lock the Debian packages of {rootfs.resolve}", values, ("lockfile",), network=True
    )
    digest = await run_step(call, (), f"generate the lockfile of the resolve `{rootfs.resolve}`")
    return DebianLockText(await read_output(digest, "lockfile"))


@rule(desc="Read opam repositories", level=LogLevel.DEBUG)
async def prepare_repositories(request: PreparedRepositoriesRequest, opam: OpamSubsystem) -> PreparedRepositories:
    """Once for all resolves on a base: opam takes long to read a repository of many thousand files."""
    repositories: tuple[OpamRepository, ...] = await concurrently(
        opam_repository(OpamRepositoryRequest(name, location)) for name, location in opam.repositories.items()
    )
    ground: Foundation = await foundation(FoundationRequest(request.debian_lock))
    values = {
        "step": "repositories",
        "layers": layer_paths(ground.layers),
        "repositories": [{"name": repository.name, "path": repository.path} for repository in repositories],
    }
    call = lock_call(
        "lock-opam",
        f"Read the opam repositories {', '.join(opam.repositories)}",
        values,
        (),
        layers=ground.layers,
        output_directories=("prepared",),
    )
    digest = await run_step(
        call, (repository.digest for repository in repositories), "read the repositories of `[opam].repositories`"
    )
    return PreparedRepositories(digest)


@rule(desc="Read Debian's package lists", level=LogLevel.DEBUG)
async def read_debian_indexes(request: DebianIndexesRequest, debian: DebianSubsystem) -> DebianIndexes:
    mirrors = await require_mirrors()
    values = {
        "step": "indexes",
        "suite": request.suite,
        "architecture": request.architecture,
        "mirrors": list(mirrors.urls),
        "source_suites": list(debian.source_suites),
    }
    description = f"Read Debian's package lists ({request.suite}, {request.architecture})"
    call = lock_call("lock-opam", description, values, ("indexes.json", "sources.txt"), network=True)
    return DebianIndexes(await run_step(call, (), "read Debian's package lists"))


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
    text: DebianLockText = await debian_lock_text(DebianLockTextRequest(request.rootfs))
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
    inputs: ResolveInputs = await resolve_inputs(ResolveInputsRequest(resolve))
    if not inputs.requirements and not inputs.opam_files:
        raise InvalidTargetException(
            f"The resolve `{resolve}` has no roots: add an `{OpamRequirementTarget.alias}` target with "
            f'`resolve="{resolve}"` and `requirements`, or with an opam file as `source`.'
        )
    if not opam.repositories:
        raise InvalidRepositoryError("No opam repository is set: name at least one in `[opam].repositories`.")
    rootfs: DebianRootfs = await debian_rootfs(
        DebianRootfsRequest(address_text(inputs.base), "`[opam].resolves_to_base`")
    )
    await require_host(opam)
    mirrors = await require_mirrors()
    fingerprints: RepositoryFingerprints = await repository_fingerprints()
    if request.with_base or rootfs.resolve in generate.resolve:
        text: DebianLockText = await debian_lock_text(DebianLockTextRequest(rootfs))
        base_path = debian.lockfile_of(rootfs.resolve, f"the target {rootfs.address}")
        locked = read_debian_lock(base_path, rootfs.resolve, text.content)
    else:
        locked = await debian_lock(DebianLockRequest(rootfs))
    ground: Foundation = await foundation(FoundationRequest(locked))
    prepared: PreparedRepositories
    indexes: DebianIndexes
    prepared, indexes = await concurrently(
        prepared_repositories(PreparedRepositoriesRequest(locked)),
        debian_indexes(DebianIndexesRequest(rootfs.suite, rootfs.architecture)),
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
    base_json = await digest_subset(DigestSubset(prepared.digest, PathGlobs(["prepared/base.json"])))
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
