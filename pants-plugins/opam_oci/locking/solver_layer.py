"""Makes the layer of the program that solves many roots: it stands over a base and opam's root, and in no image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.fs import CreateDigest, Digest, DigestSubset, PathGlobs
from pants.util.logging import LogLevel

from opam_oci.downloads.credentials import places
from opam_oci.layers.foundation import FoundationRequest, make_foundation
from opam_oci.layers.requests import deb_entries, deb_json, deb_requests
from opam_oci.locking.opam_inputs import (
    DebianIndexesRequest,
    PreparedRepositoriesRequest,
    prepare_repositories,
    read_debian_indexes,
)
from opam_oci.locking.steps import LockError, lock_call, read_output, require_mirrors, run_step
from opam_oci.pants_engine.calls import create_digest, digest_subset_to_digest
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.lockfile import Deb, DebianLock
from opam_oci.sandbox.foreign_json import parse_object
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer
from opam_oci.sandbox.on_demand import OnDemandRequest
from opam_oci.sandbox.process import STORE, Call, layer_paths, request_file, tool_process
from opam_oci.sandbox.run_tool import run_layer_on_demand
from opam_oci.sandbox.tool import find_sandbox_tool

if TYPE_CHECKING:
    from opam_sandbox.locking.root_requests import SolverPackage, SolverRequest

_OWNER = "the solver of roots"


@dataclass(frozen=True)
class SolverLayerRequest:
    """Asks for the solver of roots on a base, as locked."""

    debian_lock: DebianLock


@dataclass(frozen=True)
class SolverLayer:
    """The layer; None where the base's Debian has not what the program needs, and the `note` says so."""

    layer: Layer | None
    note: str = ""


@dataclass(frozen=True)
class _Package:
    """The program's package as the tool has it, in JSON: with its .debs apart, which Debian may replace from day to day."""

    fields: str
    debs: tuple[Deb, ...]
    note: str


def read_solver_package(content: bytes) -> _Package:
    """solver.json. Raises LockError."""
    values: SolverPackage = parse_object(content, "solver.json", LockError)  # type: ignore[assignment]
    try:
        debs = tuple(
            Deb(deb["name"], deb["version"], deb["architecture"], deb["path"], deb["sha256"], deb["size"])
            for deb in values["debs"]
        )
        return _Package(json.dumps(values["package"], sort_keys=True), debs, values["note"])
    except (KeyError, TypeError) as error:
        raise LockError(f"solver.json is not understood: {error!r}") from None


async def _locked(lock: DebianLock, base_json: Digest) -> _Package:
    mirrors = places((await require_mirrors()).urls)
    indexes = await read_debian_indexes(DebianIndexesRequest(lock.suite, lock.architecture), **implicitly())
    values: SolverRequest = {
        "step": "solver",
        "store": STORE,
        "base_json": "prepared/base.json",
        "indexes": "indexes.json",
        "mirrors": [mirror.url for mirror in mirrors],
        "suite": lock.suite,
        "architecture": lock.architecture,
    }
    call = lock_call("lock-opam", f"Find opam's solver in {lock.suite}", values, ("solver.json",), network=True)
    output = await run_step(call, (base_json, indexes.digest), f"look opam's solver up in {lock.suite}", mirrors)
    return read_solver_package(await read_output(output, "solver.json"))


@rule(desc="Make the solver of roots", level=LogLevel.DEBUG)
async def make_solver_layer(request: SolverLayerRequest) -> SolverLayer:
    """Look up what the program needs, and build it. Raises LockError, FetchError, LayerError."""
    lock = request.debian_lock
    ground, prepared = await concurrently(
        make_foundation(FoundationRequest(lock), **implicitly()),
        prepare_repositories(PreparedRepositoriesRequest(lock), **implicitly()),
    )
    base_json = await digest_subset_to_digest(DigestSubset(prepared.digest, PathGlobs(["prepared/base.json"])))
    package = await _locked(lock, base_json)
    if package.note:
        return SolverLayer(None, package.note)
    description = f"Build the solver of roots on {lock.resolve}"
    values = {
        "store": STORE,
        "layers": layer_paths(ground.layers),
        "package": {**json.loads(package.fields), "sources": [], "debs": [deb_json(deb) for deb in package.debs]},
        "with_test": False,
        "later": [],
    }
    call = Call("build", description, values, ground.layers, LAYER_OUTPUTS)
    inputs = await create_digest(CreateDigest([request_file(values, ground.layers), *deb_entries(package.debs)]))
    process = tool_process(await find_sandbox_tool(**implicitly()), call, inputs)
    files = deb_requests(_OWNER, package.debs, lock.resolve)
    return SolverLayer(await run_layer_on_demand(OnDemandRequest(process, files)))


def rules() -> list[object]:
    return [*collect_rules()]
