"""`generate-lockfiles` for bases (`[debian].resolves`) and for opam packages (`[opam].resolves`).

The tool writes lockfiles in processes that may use the network and whose results are never cached: whoever asks for a
new lockfile wants today's.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Callable, Iterable

from pants.core.goals.generate_lockfiles import (
    GenerateLockfile,
    GenerateLockfileResult,
    GenerateLockfilesSubsystem,
    LockfileDiff,
    LockfilePackages,
    UserGenerateLockfiles,
)
from pants.engine.fs import CreateDigest, FileContent, PathGlobs
from pants.engine.target import InvalidTargetException
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.goals.known_lockfiles import (
    RequestedDebianResolveNames,
    RequestedOpamHealthResolveNames,
    RequestedOpamResolveNames,
)
from opam_oci.locking.debian_lockfile import DebianLockTextRequest, lock_debian
from opam_oci.locking.opam_health_lockfile import OpamHealthLockTextRequest, lock_opam_health
from opam_oci.locking.opam_lockfile import OpamLockTextRequest, lock_opam
from opam_oci.locking.refused_lockfile import refused
from opam_oci.locking.requests import GenerateDebianLockfile, GenerateOpamHealthLockfile, GenerateOpamLockfile
from opam_oci.locking.steps import LockError
from opam_oci.locking.versions import Version
from opam_oci.pants_engine.calls import contents_of_globs, create_digest
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.pants_engine.version import WRAPS_LOCKFILE_REQUESTS
from opam_oci.resolves.debian_rootfs import DebianRootfs, DebianRootfsRequest, debian_rootfs_of, find_debian_rootfs
from opam_oci.resolves.freshness import check_debian_lock_fresh, check_health_lock_fresh, check_opam_lock_fresh
from opam_oci.resolves.health_inputs import HealthInputsRequest, base_request, find_health_inputs
from opam_oci.resolves.health_lock import read_health_lock
from opam_oci.resolves.lockfile import LockfileError
from opam_oci.resolves.lockfile_reader import read_debian_lock, read_opam_lock
from opam_oci.resolves.targets import TargetsOfTypeRequest, find_targets_of_type
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_health import OpamHealthSubsystem
from opam_oci.target_types import DebianRootfsTarget

logger = logging.getLogger(__name__)


def prints_diff(generate: GenerateLockfilesSubsystem) -> bool:
    """Newer versions of Pants print what changed unless told not to, and so do these lockfiles with any of them."""
    return bool(generate.diff or generate.options.is_default("diff"))


@rule
async def plan_debian_lockfiles(
    requested: RequestedDebianResolveNames, debian: DebianSubsystem, generate: GenerateLockfilesSubsystem
) -> UserGenerateLockfiles:
    """One request for each base that is asked for. Raises InvalidTargetException for a resolve that no target has."""
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
    """One request for each opam resolve that is asked for."""
    return UserGenerateLockfiles(
        GenerateOpamLockfile(
            resolve_name=name,
            lockfile_dest=opam.resolves[name],
            diff=prints_diff(generate),
            with_base=not generate.resolve,
        )
        for name in requested
    )


@rule
def plan_opam_health_lockfiles(
    requested: RequestedOpamHealthResolveNames, health: OpamHealthSubsystem, generate: GenerateLockfilesSubsystem
) -> UserGenerateLockfiles:
    """One request for each health check that is asked for."""
    return UserGenerateLockfiles(
        GenerateOpamHealthLockfile(
            resolve_name=name,
            lockfile_dest=health.resolves[name],
            diff=prints_diff(generate),
            with_base=not generate.resolve,
        )
        for name in requested
    )


def is_alone(generate: GenerateLockfilesSubsystem, opam: OpamSubsystem) -> bool:
    """Whether no other lockfile of an opam resolve is generated in this run."""
    return len(set(generate.resolve or opam.resolves).intersection(opam.resolves)) == 1


async def result_of(
    request: GenerateLockfile, content: bytes, versions: Callable[[bytes], LockfilePackages]
) -> GenerateLockfileResult:
    """The lockfile, and what is new in it if the user wants to know. `versions` reads a lockfile."""
    digest = await create_digest(CreateDigest([FileContent(request.lockfile_dest, content)]))
    if not request.diff:
        return GenerateLockfileResult(digest, request.resolve_name, request.lockfile_dest, None)
    old = LockfilePackages({})
    for file in await contents_of_globs(PathGlobs([request.lockfile_dest])):
        try:
            old = versions(file.content)
        except LockfileError:
            pass  # it is about to be replaced
    diff = LockfileDiff.create(
        path=request.lockfile_dest, resolve_name=request.resolve_name, old=old, new=versions(content)
    )
    return GenerateLockfileResult(digest, request.resolve_name, request.lockfile_dest, diff)


def debian_versions(path: str, resolve: str, content: bytes) -> LockfilePackages:
    """The versions of a base's lockfile. Raises LockfileError."""
    lock = read_debian_lock(path, resolve, content)
    return LockfilePackages({deb.name: Version(deb.version) for deb in lock.debs.values()})


def opam_versions(path: str, resolve: str, content: bytes) -> LockfilePackages:
    """The versions of an opam resolve's lockfile. Raises LockfileError."""
    lock = read_opam_lock(path, resolve, content)
    return LockfilePackages({package.name: Version(package.version) for package in lock.packages.values()})


def opam_health_versions(path: str, resolve: str, content: bytes) -> LockfilePackages:
    """The versions of a health check's roots that have a solution. Raises LockfileError."""
    lock = read_health_lock(path, resolve, content)
    return LockfilePackages({root.name: Version(root.version) for root in reversed(lock.roots) if root.node})


async def writes_base_of(base: DebianRootfsRequest, generate: GenerateLockfilesSubsystem) -> bool:
    """Whether the lockfile of a base is generated in the same run."""
    rootfs = await find_debian_rootfs(base, **implicitly())
    return rootfs.resolve in generate.resolve


@rule(desc="Generate Debian lockfile", level=LogLevel.DEBUG)
async def generate_debian_lockfile(request: GenerateDebianLockfile) -> GenerateLockfileResult:
    """A base's lockfile. Raises LockError, FetchError."""
    path, resolve = request.lockfile_dest, request.resolve_name
    text = await lock_debian(DebianLockTextRequest(request.rootfs), **implicitly())
    check_debian_lock_fresh(read_debian_lock(path, resolve, text.content), request.rootfs)
    return await result_of(request, text.content, partial(debian_versions, path, resolve))


@rule(desc="Generate opam lockfile", level=LogLevel.DEBUG)
async def generate_opam_lockfile(
    request: GenerateOpamLockfile, opam: OpamSubsystem, generate: GenerateLockfilesSubsystem
) -> GenerateLockfileResult:
    """An opam resolve's lockfile. Raises LockError, FetchError; a LockError keeps no other lockfile from being written."""
    path, resolve = request.lockfile_dest, request.resolve_name
    new_base = request.with_base or await writes_base_of(
        DebianRootfsRequest(opam.base_of(resolve), "`[opam].resolves_to_base`"), generate
    )
    try:
        text = await lock_opam(OpamLockTextRequest(resolve, new_base), **implicitly())
    except LockError as error:
        if is_alone(generate, opam):
            raise
        logger.error(f"The resolve `{resolve}`: {error}")
        return refused(resolve, path, str(error))
    for note in text.notes:
        logger.warning(f"The resolve `{resolve}`: {note}")
    check_opam_lock_fresh(read_opam_lock(path, resolve, text.content), text.inputs, text.fingerprints)
    return await result_of(request, text.content, partial(opam_versions, path, resolve))


@rule(desc="Generate lockfile of a health check", level=LogLevel.DEBUG)
async def generate_opam_health_lockfile(
    request: GenerateOpamHealthLockfile, generate: GenerateLockfilesSubsystem
) -> GenerateLockfileResult:
    """A health check's lockfile. Raises LockError, FetchError."""
    path, resolve = request.lockfile_dest, request.resolve_name
    inputs = await find_health_inputs(HealthInputsRequest(resolve), **implicitly())
    new_base = request.with_base or await writes_base_of(base_request(inputs), generate)
    text = await lock_opam_health(OpamHealthLockTextRequest(resolve, new_base), **implicitly())
    for note in text.notes:
        logger.warning(f"The health check `{resolve}`: {note}")
    check_health_lock_fresh(read_health_lock(path, resolve, text.content), text.inputs, text.fingerprints)
    return await result_of(request, text.content, partial(opam_health_versions, path, resolve))


def rules() -> list[object]:
    rules = [
        *collect_rules(),
        UnionRule(GenerateLockfile, GenerateDebianLockfile),
        UnionRule(GenerateLockfile, GenerateOpamLockfile),
        UnionRule(GenerateLockfile, GenerateOpamHealthLockfile),
    ]
    if WRAPS_LOCKFILE_REQUESTS:
        from opam_oci.locking import wrapped_requests

        rules.extend(wrapped_requests.rules())
    return rules
