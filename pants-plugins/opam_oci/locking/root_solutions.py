"""Solves many roots, each by itself, on a base; lists what roots there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence

from pants.engine.fs import Digest
from pants.util.logging import LogLevel

from opam_oci.layers.foundation import Foundation, FoundationRequest, make_foundation
from opam_oci.locking.opam_inputs import PreparedRepositories, PreparedRepositoriesRequest, prepare_repositories
from opam_oci.locking.solver_layer import SolverLayer, SolverLayerRequest, make_solver_layer
from opam_oci.locking.steps import LockError, lock_call, run_step
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.sandbox.process import STORE, layer_paths
from opam_oci.subsystems.opam import OpamSubsystem

if TYPE_CHECKING:
    from opam_sandbox.locking.root_requests import ListRootsRequest, SolveRootsRequest

# Names that a description has.
_NAMED = 4


@dataclass(frozen=True)
class RootSolutionsRequest:
    """Asks opam's solver for each root that `packages` mean (names, patterns, versions, bounds) with each of `compilers`
    (requirements; "" for none), on a base as locked.

    latest: how many of the newest versions of each name; available: only those that are so in the base with the compiler."""

    debian_lock: DebianLock
    compilers: tuple[str, ...]
    packages: tuple[str, ...]
    latest: int = 1
    available: bool = True
    constraints: tuple[str, ...] = ()
    with_test: bool = False
    with_doc: bool = False
    prefer_oldest: bool = False


@dataclass(frozen=True)
class RootSolutions:
    """`solutions.json` (see the tool's `locking/root_requests.py`), and what users should know of how it was made."""

    digest: Digest
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RootListRequest:
    """Asks what is available in the base (installable: what goes with each compiler), or what can be installed together with the
    packages of `revdeps_of`."""

    debian_lock: DebianLock
    compilers: tuple[str, ...]
    all_versions: bool = False
    installable: bool = False
    revdeps_of: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()


@dataclass(frozen=True)
class RootList:
    """`roots.json` (see the tool's `locking/root_requests.py`)."""

    digest: Digest


def solve_values(request: RootSolutionsRequest, repositories: list[str], below: int, *, solver: bool) -> dict[str, Any]:
    """The request of the tool. below: how many layers stand below the solver's."""
    values: SolveRootsRequest = {
        "step": "solve-roots",
        "store": STORE,
        "layers": [f"in/{number}" for number in range(below)],
        "prepared": "prepared",
        "repositories": repositories,
        "compilers": list(request.compilers),
        "selection": {
            "packages": list(request.packages),
            "latest": request.latest,
            "available": request.available,
        },
        "constraints": list(request.constraints),
        "with_test": request.with_test,
        "with_doc": request.with_doc,
        "prefer_oldest": request.prefer_oldest,
    }
    return {**values, **({"solver": f"in/{below}"} if solver else {})}


async def solving_ground(lock: DebianLock) -> tuple[Foundation, PreparedRepositories, SolverLayer]:
    """What roots are solved on. Raises LockError, FetchError, LayerError."""
    prepared, solver = await concurrently(
        prepare_repositories(PreparedRepositoriesRequest(lock), **implicitly()),
        make_solver_layer(SolverLayerRequest(lock), **implicitly()),
    )
    return await make_foundation(FoundationRequest(lock), **implicitly()), prepared, solver


def some(packages: Sequence[str]) -> str:
    """The first few of many names, for people."""
    more = len(packages) - _NAMED
    return ", ".join(packages[:_NAMED]) + (f" and {more} others" if more > 0 else "")


@rule(desc="Solve roots", level=LogLevel.DEBUG)
async def solve_roots(request: RootSolutionsRequest, opam: OpamSubsystem) -> RootSolutions:
    """All of them in one process, which is cached. Raises LockError, FetchError, LayerError."""
    lock = request.debian_lock
    ground, prepared, solver = await solving_ground(lock)
    layers = (*ground.layers, *((solver.layer,) if solver.layer else ()))
    repositories = list(opam.ordered_repositories())
    values = solve_values(request, repositories, len(ground.layers), solver=solver.layer is not None)
    description = f"Solve each of {some(request.packages)} on {lock.resolve}"
    call = lock_call("lock-opam", description, values, ("solutions.json",), layers=layers)
    digest = await run_step(call, (prepared.digest,), f"solve each of {some(request.packages)}")
    return RootSolutions(digest, (solver.note,) if solver.note else ())


@rule(desc="List roots", level=LogLevel.DEBUG)
async def list_roots(request: RootListRequest, opam: OpamSubsystem) -> RootList:
    """What there is to solve. Raises LockError, also where the base's Debian has no solver; FetchError, LayerError."""
    lock = request.debian_lock
    ground, prepared, solver = await solving_ground(lock)
    if solver.layer is None:
        raise LockError(f"Cannot list packages on the base {lock.resolve}: {solver.note}")
    values: ListRootsRequest = {
        "step": "list-roots",
        "store": STORE,
        "layers": layer_paths(ground.layers),
        "prepared": "prepared",
        "repositories": list(opam.ordered_repositories()),
        "compilers": list(request.compilers),
        "solver": f"in/{len(ground.layers)}",
        "all_versions": request.all_versions,
        "installable": request.installable,
        "revdeps_of": list(request.revdeps_of),
        "constraints": list(request.constraints),
    }
    call = lock_call(
        "lock-opam",
        f"List the opam packages for {lock.resolve}",
        values,
        ("roots.json",),
        layers=(*ground.layers, solver.layer),
    )
    return RootList(await run_step(call, (prepared.digest,), "list packages"))


def rules() -> list[object]:
    return [*collect_rules()]
