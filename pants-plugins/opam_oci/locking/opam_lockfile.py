"""Makes the lockfile of an opam resolve."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import DigestSubset, PathGlobs
from pants.engine.target import InvalidTargetException
from pants.option.global_options import GlobalOptions
from pants.util.logging import LogLevel

from opam_oci.downloads.credentials import Place, places
from opam_oci.layers.foundation import Foundation, FoundationRequest, make_foundation
from opam_oci.locking.debian_lockfile import DebianLockTextRequest, lock_debian
from opam_oci.locking.opam_inputs import (
    DebianIndexesRequest,
    PreparedRepositoriesRequest,
    prepare_repositories,
    read_debian_indexes,
)
from opam_oci.locking.steps import lock_call, read_output, require_host, require_mirrors, run_step
from opam_oci.pants_engine.calls import digest_subset_to_digest
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.debian_rootfs import DebianRootfs, DebianRootfsRequest, find_debian_rootfs
from opam_oci.resolves.inputs import ResolveInputs, ResolveInputsRequest, find_resolve_inputs
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.resolves.lockfile_reader import read_debian_lock
from opam_oci.resolves.locks import DebianLockRequest, read_fresh_debian_lock
from opam_oci.resolves.opam_repositories import (
    InvalidRepositoryError,
    RepositoryFingerprints,
    check_nothing_hidden,
    find_fingerprints,
)
from opam_oci.resolves.targets import address_text
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem, OutOfReach
from opam_oci.target_types import OpamRequirementTarget

if TYPE_CHECKING:
    from opam_sandbox.locking.requests import LockRequest, SolveRequest


@dataclass(frozen=True)
class OpamLockTextRequest(EngineAwareParameter):
    """Asks for the lockfile of an opam resolve.

    `new_base`: the base's lockfile is written in the same run, so that the new one counts, not the one on disk.
    """

    resolve: str
    new_base: bool

    def debug_hint(self) -> str:
        return self.resolve


@dataclass(frozen=True)
class OpamLockText:
    """A lockfile of an opam resolve, just made, and what its user should know of it."""

    content: bytes
    notes: tuple[str, ...]
    inputs: ResolveInputs
    fingerprints: RepositoryFingerprints


def check_inputs(inputs: ResolveInputs, opam: OpamSubsystem) -> None:
    """Raise InvalidTargetException for a resolve without roots, InvalidRepositoryError where there is no repository."""
    if not inputs.requirements and not inputs.opam_files:
        raise InvalidTargetException(
            f"The resolve `{inputs.resolve}` has no roots: add an `{OpamRequirementTarget.alias}` target with "
            f'`resolve="{inputs.resolve}"` and `requirements`, or with an opam file as `source`.'
        )
    if not opam.repositories:
        raise InvalidRepositoryError("No opam repository is set: name at least one in `[opam].repositories`.")


async def base_lock(rootfs: DebianRootfs, debian: DebianSubsystem, *, new: bool) -> DebianLock:
    """The lock of the base to solve in, from disk or, if `new`, as the Debian archive is now."""
    if not new:
        return await read_fresh_debian_lock(DebianLockRequest(rootfs), **implicitly())
    text = await lock_debian(DebianLockTextRequest(rootfs), **implicitly())
    path = debian.lockfile_of(rootfs.resolve, f"the target {rootfs.address}")
    return read_debian_lock(path, rootfs.resolve, text.content)


def solve_call(inputs: ResolveInputs, opam: OpamSubsystem, ground: Foundation) -> Call:
    """The step in which opam solves."""
    values: SolveRequest = {
        "step": "solve",
        "store": STORE,
        "layers": layer_paths(ground.layers),
        "prepared": "prepared",
        "repositories": list(opam.ordered_repositories()),
        "requirements": list(inputs.requirements),
        "constraints": list(inputs.constraints),
        "local": [
            {"name": file.package, "opam": file.text, "path": file.path, "target": file.target}
            for file in inputs.opam_files
        ],
        "with_test": inputs.options.with_test,
        "with_doc": inputs.options.with_doc,
        "prefer_oldest": inputs.options.prefer_oldest,
        "solver": inputs.options.solver,
    }
    return lock_call(
        "lock-opam", f"Solve the resolve {inputs.resolve}", values, ("solution.json",), layers=ground.layers
    )


def write_call(
    inputs: ResolveInputs,
    opam: OpamSubsystem,
    rootfs: DebianRootfs,
    fingerprints: RepositoryFingerprints,
    mirrors: tuple[Place, ...],
    archive_mirrors: tuple[Place, ...],
) -> Call:
    """The step that finds sources and Debian packages, and writes the lockfile."""
    values: LockRequest = {
        "step": "lock",
        "store": STORE,
        "resolve": inputs.resolve,
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
        "mirrors": [mirror.url for mirror in mirrors],
        "archive_mirrors": [mirror.url for mirror in archive_mirrors],
        "suite": rootfs.suite,
        "architecture": rootfs.architecture,
        "record_out_of_reach": opam.out_of_reach == OutOfReach.RECORD,
    }
    description = f"Lock the sources and Debian packages of the resolve {inputs.resolve}"
    return lock_call("lock-opam", description, values, ("lockfile", "notes.json"), network=True)


@rule(desc="Lock opam packages", level=LogLevel.DEBUG)
async def lock_opam(
    request: OpamLockTextRequest, opam: OpamSubsystem, debian: DebianSubsystem, options: GlobalOptions
) -> OpamLockText:
    """Solving runs in the base, with the opam that will build: so the base is made first. Raises LockError and others."""
    resolve = request.resolve
    inputs = await find_resolve_inputs(ResolveInputsRequest(resolve), **implicitly())
    check_inputs(inputs, opam)
    await check_nothing_hidden(opam.ordered_repositories(), options)
    rootfs = await find_debian_rootfs(
        DebianRootfsRequest(address_text(inputs.base), "`[opam].resolves_to_base`"), **implicitly()
    )
    await require_host(opam)
    mirrors, archive_mirrors = places((await require_mirrors()).urls), places(opam.archive_mirrors)
    fingerprints = await find_fingerprints(**implicitly())
    locked = await base_lock(rootfs, debian, new=request.new_base)
    ground = await make_foundation(FoundationRequest(locked), **implicitly())
    prepared, indexes = await concurrently(
        prepare_repositories(PreparedRepositoriesRequest(locked), **implicitly()),
        read_debian_indexes(DebianIndexesRequest(rootfs.suite, rootfs.architecture), **implicitly()),
    )
    purpose = f"generate the lockfile of the resolve `{resolve}`"
    solution = await run_step(solve_call(inputs, opam, ground), (prepared.digest,), purpose)
    base_json = await digest_subset_to_digest(DigestSubset(prepared.digest, PathGlobs(["prepared/base.json"])))
    write = write_call(inputs, opam, rootfs, fingerprints, mirrors, archive_mirrors)
    output = await run_step(write, (solution, indexes.digest, base_json), purpose, (*mirrors, *archive_mirrors))
    notes = tuple(json.loads(await read_output(output, "notes.json")))
    return OpamLockText(await read_output(output, "lockfile"), notes, inputs, fingerprints)


def rules() -> list[object]:
    return [*collect_rules()]
