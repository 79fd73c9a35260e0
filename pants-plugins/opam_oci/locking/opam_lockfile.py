"""Makes the lockfile of an opam resolve."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.base.build_environment import get_buildroot
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import DigestSubset, PathGlobs
from pants.engine.target import InvalidTargetException
from pants.option.global_options import GlobalOptions
from pants.util.logging import LogLevel

from opam_oci.layers.foundation import Foundation, FoundationRequest, make_foundation
from opam_oci.locking.lock_ground import LockGround, make_lock_ground
from opam_oci.locking.steps import lock_call, read_output, run_step
from opam_oci.pants_engine.calls import digest_subset_to_digest
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.debian_rootfs import DebianRootfsRequest
from opam_oci.resolves.inputs import LocalOpamFile, ResolveInputs, ResolveInputsRequest, find_resolve_inputs
from opam_oci.resolves.opam_repositories import (
    RepositoryFingerprints,
)
from opam_oci.resolves.targets import address_text
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem, OutOfReach
from opam_oci.target_types import OpamRequirementTarget
from opam_oci.target_types_projects import OpamProjectTarget

if TYPE_CHECKING:
    from opam_sandbox.locking.requests import LocalPackage, LockRequest, SolveRequest


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


def check_inputs(inputs: ResolveInputs) -> None:
    """Raise InvalidTargetException for a resolve without roots."""
    if not inputs.requirements and not inputs.opam_files:
        raise InvalidTargetException(
            f"The resolve `{inputs.resolve}` has no roots: add an `{OpamRequirementTarget.alias}` target with "
            f'`resolve="{inputs.resolve}"` and `requirements`, or with an opam file as `source`, or an '
            f"`{OpamProjectTarget.alias}` target."
        )


def _local_json(file: LocalOpamFile) -> LocalPackage:
    fields: LocalPackage = {"name": file.package, "opam": file.text, "path": file.path, "target": file.target}
    return {**fields, "build": True, "directory": file.directory} if file.build else fields


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
        "local": [_local_json(file) for file in inputs.opam_files],
        "with_test": inputs.options.with_test,
        "with_doc": inputs.options.with_doc,
        "prefer_oldest": inputs.options.prefer_oldest,
        "solver": inputs.options.solver,
    }
    root = get_buildroot()
    if any(root in file.text for file in inputs.opam_files):
        # Only there: another directory would be another solution for the cache.
        values["root"] = root
    return lock_call(
        "lock-opam", f"Solve the resolve {inputs.resolve}", values, ("solution.json",), layers=ground.layers
    )


def write_call(inputs: ResolveInputs, opam: OpamSubsystem, at: LockGround) -> Call:
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
        "repositories": list(at.fingerprints.lines),
        "solution": "solution.json",
        "base_json": "prepared/base.json",
        "indexes": "indexes.json",
        "sources": "sources.txt",
        "mirrors": [mirror.url for mirror in at.mirrors],
        "archive_mirrors": [mirror.url for mirror in at.archive_mirrors],
        "suite": at.rootfs.suite,
        "architecture": at.rootfs.architecture,
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
    check_inputs(inputs)
    base = DebianRootfsRequest(address_text(inputs.base), "`[opam].resolves_to_base`")
    at = await make_lock_ground(base, opam, debian, options, new_base=request.new_base)
    ground = await make_foundation(FoundationRequest(at.debian_lock), **implicitly())
    purpose = f"generate the lockfile of the resolve `{resolve}`"
    solution = await run_step(solve_call(inputs, opam, ground), (at.prepared,), purpose)
    base_json = await digest_subset_to_digest(DigestSubset(at.prepared, PathGlobs(["prepared/base.json"])))
    places = (*at.mirrors, *at.archive_mirrors)
    output = await run_step(write_call(inputs, opam, at), (solution, at.indexes, base_json), purpose, places)
    notes = tuple(json.loads(await read_output(output, "notes.json")))
    return OpamLockText(await read_output(output, "lockfile"), notes, inputs, at.fingerprints)


def rules() -> list[object]:
    return [*collect_rules()]
