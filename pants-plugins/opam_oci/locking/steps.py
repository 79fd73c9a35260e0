"""The steps that make a lockfile: each is a run of the sandbox tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.env_vars import EnvironmentVars, EnvironmentVarsRequest
from pants.engine.fs import CreateDigest, Digest, DigestSubset, MergeDigests, PathGlobs
from pants.engine.process import ProcessCacheScope
from pants.util.logging import LogLevel

from opam_oci.downloads.debian_mirrors import NO_MIRROR, Mirrors, find_mirrors
from opam_oci.downloads.fetch import FetchError
from opam_oci.host.checks import HostCheckRequest, MissingHostToolsError, check_host
from opam_oci.layers.foundation import FoundationRequest, make_foundation
from opam_oci.pants_engine.calls import (
    create_digest,
    digest_subset_to_digest,
    environment_vars,
    get_digest_contents,
    merge_digests,
    run_process,
)
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.debian_rootfs import DebianRootfs
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.resolves.opam_repositories import NETWORK_VARIABLES, OpamRepositoryRequest, find_opam_repository
from opam_oci.sandbox.layer import Layer
from opam_oci.sandbox.process import Call, layer_paths, request_file, tool_process
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class PreparedRepositoriesRequest:
    """Asks opam in a base, as locked, to read all of `[opam].repositories`."""

    debian_lock: DebianLock


@dataclass(frozen=True)
class PreparedRepositories:
    """The directory `prepared/`: what opam keeps of the repositories that it read, and their packages' files."""

    digest: Digest


@dataclass(frozen=True)
class DebianIndexesRequest:
    """Asks for a mirror's lists as they are in this run."""

    suite: str
    architecture: str


@dataclass(frozen=True)
class DebianIndexes:
    """`indexes.json` and `sources.txt`: the lists of a suite's packages, and the files of Debian's sources."""

    digest: Digest


@dataclass(frozen=True)
class DebianLockText:
    """A lockfile of a base, just made."""

    content: bytes


@dataclass(frozen=True)
class DebianLockTextRequest(EngineAwareParameter):
    """Asks the Debian archive what a base consists of today."""

    rootfs: DebianRootfs

    def debug_hint(self) -> str:
        return self.rootfs.resolve


class LockError(Exception):
    """A lockfile that could not be made; the message has the tool's, or opam's, reason."""


async def run_step(call: Call, digests: Iterable[Digest], purpose: str) -> Digest:
    """What a step of the tool writes. Raises LockError: "Cannot `purpose`" and the tool's reason.

    A step whose results are cached does not use the network, and gets nothing of this machine's environment.
    """
    tool = await find_sandbox_tool(**implicitly())
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
    contents = await get_digest_contents(await digest_subset_to_digest(DigestSubset(digest, PathGlobs([name]))))
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
    mirrors = await find_mirrors(**implicitly())
    if not mirrors.urls:
        raise FetchError(f"Cannot generate lockfiles: {NO_MIRROR}.")
    return mirrors


async def require_host(opam: OpamSubsystem) -> None:
    if opam.check_host:
        host = await check_host(HostCheckRequest(base=True, lock=True), **implicitly())
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
    repositories = await concurrently(
        find_opam_repository(OpamRepositoryRequest(name, location), **implicitly())
        for name, location in opam.repositories.items()
    )
    ground = await make_foundation(FoundationRequest(request.debian_lock), **implicitly())
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


def rules() -> list[object]:
    return [*collect_rules()]
