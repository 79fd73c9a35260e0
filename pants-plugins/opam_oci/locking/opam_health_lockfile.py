"""Makes the lockfile of a health check."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import CreateDigest, Digest, FileContent
from pants.option.global_options import GlobalOptions
from pants.util.logging import LogLevel

from opam_oci.locking.lock_ground import LockGround, make_lock_ground
from opam_oci.locking.root_solutions import RootListRequest, RootSolutionsRequest, list_roots, solve_roots
from opam_oci.locking.steps import lock_call, read_output, run_step
from opam_oci.pants_engine.calls import create_digest
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.health_inputs import HealthInputs, HealthInputsRequest, base_request, find_health_inputs
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.resolves.opam_repositories import (
    RepositoryFingerprints,
)
from opam_oci.resolves.targets import address_text
from opam_oci.sandbox.process import STORE, Call
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem

if TYPE_CHECKING:
    from opam_sandbox.locking.root_requests import LockRootsRequest


@dataclass(frozen=True)
class OpamHealthLockTextRequest(EngineAwareParameter):
    """Asks for the lockfile of a health check. `new_base`: as of OpamLockTextRequest. revdeps_of: the roots are not the
    check's, but what can be installed together with these packages."""

    resolve: str
    new_base: bool
    revdeps_of: tuple[str, ...] = ()

    def debug_hint(self) -> str:
        return self.resolve


@dataclass(frozen=True)
class OpamHealthLockText:
    """A lockfile of a health check, just made, and what its user should know of it."""

    content: bytes
    notes: tuple[str, ...]
    inputs: HealthInputs
    fingerprints: RepositoryFingerprints


def write_call(inputs: HealthInputs, at: LockGround) -> Call:
    """The step that finds sources and Debian packages, and writes the lockfile."""
    options = inputs.options
    values: LockRootsRequest = {
        "step": "lock-roots",
        "store": STORE,
        "resolve": inputs.resolve,
        "metadata": {
            "base": address_text(inputs.base),
            "packages": list(inputs.packages),
            "latest": inputs.latest,
            "compilers": list(inputs.compilers),
            "constraints": list(inputs.constraints),
            "options": list(options.lines()),
            "repositories": list(at.fingerprints.lines),
        },
        "asked": ["test"] * options.with_test + ["doc"] * options.with_doc,
        "prepared": "prepared",
        "solutions": "solutions.json",
        "indexes": "indexes.json",
        "sources": "sources.txt",
        "mirrors": [mirror.url for mirror in at.mirrors],
        "archive_mirrors": [mirror.url for mirror in at.archive_mirrors],
        "suite": at.rootfs.suite,
        "architecture": at.rootfs.architecture,
    }
    description = f"Lock the sources and Debian packages of the health check {inputs.resolve}"
    return lock_call("lock-opam", description, values, ("lockfile", "notes.json"), network=True)


def compilers_of(inputs: HealthInputs) -> tuple[str, ...]:
    """The compilers to solve with; one that says nothing where the check names none."""
    return inputs.compilers or ("",)


def solutions_of_dependents(listed: bytes) -> bytes:
    """roots.json with reverse dependencies as solutions.json has them."""
    found = [
        {"name": one["name"], "version": one["version"], "compiler": compiler["compiler"], "packages": one["packages"]}
        for compiler in json.loads(listed)["compilers"]
        for one in compiler["revdeps"]
    ]
    once = {(one["name"], one["version"], one["compiler"]): one for one in found}
    roots = [one for _, one in sorted(once.items())]
    return json.dumps({"roots": roots, "facts": {"names": 0, "versions": 0, "solver": "solve_roots"}}).encode()


async def solutions_of(
    inputs: HealthInputs, locked: DebianLock, revdeps_of: tuple[str, ...]
) -> tuple[Digest, tuple[str, ...]]:
    """solutions.json, and notes for the user. Raises LockError, FetchError, LayerError."""
    compilers = compilers_of(inputs)
    if revdeps_of:
        request = RootListRequest(locked, compilers, revdeps_of=revdeps_of, constraints=inputs.constraints)
        listed = await list_roots(request, **implicitly())
        content = solutions_of_dependents(await read_output(listed.digest, "roots.json"))
        return await create_digest(CreateDigest([FileContent("solutions.json", content)])), ()
    options = inputs.options
    solved = await solve_roots(
        RootSolutionsRequest(
            locked,
            compilers,
            inputs.packages,
            latest=inputs.latest,
            constraints=inputs.constraints,
            with_test=options.with_test,
            with_doc=options.with_doc,
            prefer_oldest=options.prefer_oldest,
        ),
        **implicitly(),
    )
    return solved.digest, solved.notes


@rule(desc="Lock opam packages of a health check", level=LogLevel.DEBUG)
async def lock_opam_health(
    request: OpamHealthLockTextRequest, opam: OpamSubsystem, debian: DebianSubsystem, options: GlobalOptions
) -> OpamHealthLockText:
    """Solve each root on its own, then look for what all of them need. Raises LockError and others; never for one root alone."""
    inputs = await find_health_inputs(HealthInputsRequest(request.resolve), **implicitly())
    at = await make_lock_ground(base_request(inputs), opam, debian, options, new_base=request.new_base)
    solutions, notes = await solutions_of(inputs, at.debian_lock, request.revdeps_of)
    purpose = f"generate the lockfile of the health check `{request.resolve}`"
    places = (*at.mirrors, *at.archive_mirrors)
    output = await run_step(write_call(inputs, at), (solutions, at.prepared, at.indexes), purpose, places)
    notes += tuple(json.loads(await read_output(output, "notes.json")))
    return OpamHealthLockText(await read_output(output, "lockfile"), notes, inputs, at.fingerprints)


def rules() -> list[object]:
    return [*collect_rules()]
