"""What all opam lockfiles of a run have in common: the repositories, read once, and Debian's package lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.fs import Digest
from pants.util.logging import LogLevel

from opam_oci.downloads.credentials import places
from opam_oci.layers.foundation import FoundationRequest, make_foundation
from opam_oci.locking.steps import lock_call, require_mirrors, run_step
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.resolves.opam_repositories import OpamRepositoryRequest, find_opam_repository
from opam_oci.sandbox.process import STORE, layer_paths
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem

if TYPE_CHECKING:
    from opam_sandbox.locking.requests import IndexesRequest, RepositoriesRequest


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


@rule(desc="Read opam repositories", level=LogLevel.DEBUG)
async def prepare_repositories(request: PreparedRepositoriesRequest, opam: OpamSubsystem) -> PreparedRepositories:
    """Once for all resolves on a base: opam takes long to read a repository of many thousand files."""
    ordered = opam.ordered_repositories()
    repositories = await concurrently(
        find_opam_repository(OpamRepositoryRequest(name, location), **implicitly())
        for name, location in ordered.items()
    )
    ground = await make_foundation(FoundationRequest(request.debian_lock), **implicitly())
    values: RepositoriesRequest = {
        "step": "repositories",
        "store": STORE,
        "layers": layer_paths(ground.layers),
        "repositories": [{"name": repository.name, "path": repository.path} for repository in repositories],
    }
    call = lock_call(
        "lock-opam",
        f"Read the opam repositories {', '.join(ordered)}",
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
    """Fetch a mirror's lists. Raises LockError, FetchError."""
    mirrors = places((await require_mirrors()).urls)
    values: IndexesRequest = {
        "step": "indexes",
        "store": STORE,
        "suite": request.suite,
        "architecture": request.architecture,
        "mirrors": [mirror.url for mirror in mirrors],
        "source_suites": list(debian.source_suites),
    }
    description = f"Read Debian's package lists ({request.suite}, {request.architecture})"
    call = lock_call("lock-opam", description, values, ("indexes.json", "sources.txt"), network=True)
    return DebianIndexes(await run_step(call, (), "read Debian's package lists", mirrors))


def rules() -> list[object]:
    return [*collect_rules()]
