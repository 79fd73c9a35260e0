"""Makes the layer of an opam package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterable, Mapping, Optional, Tuple

from pants.engine.engine_aware import EngineAwareParameter, EngineAwareReturnType
from pants.engine.fs import CreateDigest, FileDigest, FileEntry
from pants.engine.process import Process
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from opam_oci.downloads.fetch import FetchRequest, fetch_file
from opam_oci.layers.base import BaseLayerRequest, start_base
from opam_oci.layers.build_logs import BuildLogRequest, print_build_log
from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest, plan_build
from opam_oci.layers.foundation import Foundation, FoundationRequest, make_foundation
from opam_oci.layers.requests import (
    build_request,
    deb_entries,
    deb_requests,
    out_of_reach,
    source_requests,
    tree_entries,
)
from opam_oci.layers.urgency import turn_of
from opam_oci.pants_engine.calls import create_digest, get_digest_entries
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.projects.sources import ProjectTreeRequest, find_project_tree
from opam_oci.resolves.lockfile import Deb, LockedPackage, OpamLock
from opam_oci.sandbox.failure import FAILURE, BuildFailure, build_failure, build_log, failure_text
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer, layer_of
from opam_oci.sandbox.on_demand import OnDemandRequest, run_on_demand
from opam_oci.sandbox.process import Call, request_file, tool_process
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.opam import OpamSubsystem

if TYPE_CHECKING:
    from opam_sandbox.building import requests


# The files of this repository that a package is built from, relative to its project's root; None where that is an archive.
Tree = Optional[Tuple[FileEntry, ...]]


@dataclass(frozen=True)
class PackageLayerRequest(EngineAwareParameter):
    """The layer of one package of a resolve, and with it those of all that it depends on."""

    resolve: str
    package: str

    def debug_hint(self) -> str:
        return f"{self.package} ({self.resolve})"


@dataclass(frozen=True)
class PackageOutcome(EngineAwareReturnType):
    """The layers of a package and of its transitive build dependencies by name; or why there are none.

    Either `layers` holds the package itself, or it `failed` (the message, several lines), or it was not tried because
    the packages in `blocked_by` failed. failure: of a build that ran and failed.
    """

    package: str
    layers: FrozenDict[str, Layer]
    failed: str | None = None
    blocked_by: tuple[str, ...] = ()
    failure: BuildFailure | None = None

    @property
    def ok(self) -> bool:
        """Whether the package is built."""
        return self.failed is None and not self.blocked_by

    def level(self) -> LogLevel | None:
        return LogLevel.ERROR if self.failed is not None else None

    def message(self) -> str | None:
        return f"{self.package} failed" if self.failed is not None else None

    def cacheable(self) -> bool:
        # A failure is tried again in the next run, also under the same daemon.
        return self.ok


def layers_below(lock: OpamLock, outcomes: Iterable[PackageOutcome]) -> dict[str, Layer]:
    """The layers of a package's dependencies by name, dependencies first."""
    found: dict[str, Layer] = {}
    for outcome in outcomes:
        found.update(outcome.layers)
    return {name: found[name] for name in lock.in_build_order(found)}


def failed_outcome(
    package: LockedPackage, messages: Iterable[str], failure: BuildFailure | None = None
) -> PackageOutcome:
    """What becomes of a package that cannot be built, and why."""
    return PackageOutcome(package.full_name, FrozenDict(), failed="\n\n".join(messages), failure=failure)


async def fetch_early(files: Iterable[FetchRequest]) -> list[str]:
    """Fetch what a build needs before anything asks for it. Returns why files could not be had."""
    fetched = await concurrently(fetch_file(file, **implicitly()) for file in files)
    return [f.error for f in fetched if f.error is not None]


def build_description(package: LockedPackage) -> str:
    """How a package's build is called in Pants' UI."""
    return f"Build opam package {package.full_name}"


@dataclass(frozen=True)
class BuildProcessRequest:
    """Asks for the process that builds a package of a resolve over these layers, base and opam's root among them."""

    resolve: str
    package: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class AheadRequest:
    """Asks when another package is about to be built."""

    process: BuildProcessRequest


@dataclass(frozen=True)
class Ahead:
    """It is."""


@dataclass(frozen=True)
class BuildProcess:
    """It, which nobody has run. Its sources and .debs need not be there: the engine knows them by what the lockfile says."""

    process: Process


def request_of(
    plan: BuildPlan, request: BuildProcessRequest, opam: OpamSubsystem, tree: Tree, *, with_test: bool = False
) -> requests.BuildRequest:
    """What the tool is asked for. tree: see `tree_of`."""
    package = plan.lock.packages[request.package]
    return build_request(
        package,
        plan.opam_texts[package.name],
        plan.lock.debs_of(package.name),
        request.layers,
        plan.lock.later(package.name),
        opam.check_depexts,
        opam.depext_files_left_out,
        opam.overlapping_files,
        with_test,
        tree,
    )


async def tree_of(resolve: str, package: LockedPackage) -> Tree:
    """The files of this repository that a package is built from; None where that is an archive."""
    if not package.local:
        return None
    return (await find_project_tree(ProjectTreeRequest(resolve, package.name), **implicitly())).entries


def input_entries(package: LockedPackage, debs: Iterable[Deb], tree: Tree = None) -> list[FileEntry]:
    """What a build reads but its layers, by what the lockfile says, and of a package of this repository its sources."""
    # By checksum, as two sources of a package may be one file (the engine takes no path twice).
    sources = {source.sha256: source.size for source in package.sources}
    return [
        *(FileEntry(f"sources/{sha256}", FileDigest(sha256, size)) for sha256, size in sorted(sources.items())),
        *deb_entries(debs),
        *tree_entries(tree or ()),
    ]


def files_of(package: LockedPackage, debs: tuple[Deb, ...], resolve: str) -> tuple[FetchRequest, ...]:
    """How to fetch that."""
    return (*source_requests(package, resolve), *deb_requests(package.full_name, debs, resolve))


async def build_process_of(
    package: LockedPackage,
    values: requests.BuildRequest,
    debs: tuple[Deb, ...],
    layers: tuple[Layer, ...],
    tree: Tree = None,
) -> Process:
    """The process of a request to build a package over layers. Neither its archives nor its .debs need be there."""
    inputs = await create_digest(CreateDigest([request_file(values, layers), *input_entries(package, debs, tree)]))
    tool = await find_sandbox_tool(**implicitly())
    call = Call("build", build_description(package), values, layers, (*LAYER_OUTPUTS, FAILURE))
    return tool_process(tool, call, inputs)


@rule
async def make_build_process(request: BuildProcessRequest, opam: OpamSubsystem) -> BuildProcess:
    """Made by the package itself, and waited for by those that are less urgent."""
    plan = await plan_build(BuildPlanRequest(request.resolve), **implicitly())
    package = plan.lock.packages[request.package]
    debs = plan.lock.debs_of(package.name)
    tree = await tree_of(request.resolve, package)
    values = request_of(plan, request, opam, tree)
    return BuildProcess(await build_process_of(package, values, debs, request.layers, tree))


@rule
async def wait_for_ahead(request: AheadRequest) -> Ahead:
    """A moment later than the package itself has its process, and goes on to run it."""
    build = await make_build_process(request.process, **implicitly())
    await get_digest_entries(build.process.input_digest)
    return Ahead()


@dataclass(frozen=True)
class SmallLayer:
    """The layer of a package; None if it does not build, which is its own rule's to say."""

    layer: Layer | None


@rule
async def build_small(request: BuildProcessRequest) -> SmallLayer:
    """Wait for a package's build, or run it. Of packages for which nothing has to be fetched."""
    build = await make_build_process(request, **implicitly())
    built = await run_on_demand(OnDemandRequest(build.process, ()), **implicitly())
    if built.result is None or built.result.exit_code != 0:
        return SmallLayer(None)
    return SmallLayer(await layer_of(built.result, build.process.description))


def stands_on(plan: BuildPlan, name: str, known: Mapping[str, Layer]) -> bool:
    """Whether all that a package is built over is known."""
    return all(one in known for one in plan.lock.build_closure(plan.lock.packages[name].depends))


def over(
    resolve: str, plan: BuildPlan, ground: Foundation, name: str, known: Mapping[str, Layer]
) -> BuildProcessRequest:
    """How a package is asked for: as its own rule does it. known: layers by name, those that it is built over among them."""
    below = plan.lock.build_closure(plan.lock.packages[name].depends)
    return BuildProcessRequest(resolve, name, (*ground.layers, *(known[one] for one in below)))


@rule(desc="Build opam package", level=LogLevel.DEBUG)
async def build_package_layer(request: PackageLayerRequest, opam: OpamSubsystem) -> PackageOutcome:
    """Asks for the layers of its own dependencies, so that each package builds as soon as those are there.

    A failure is a value: other packages go on, and those above know whose fault it is.
    """
    plan = await plan_build(BuildPlanRequest(request.resolve), **implicitly())
    package = plan.lock.packages[request.package]
    missing = out_of_reach(package, request.resolve)
    if missing:
        return failed_outcome(package, missing)
    files = files_of(package, plan.lock.debs_of(package.name), request.resolve)
    start = await start_base(BaseLayerRequest(plan.debian_lock), **implicitly())
    if not start.cached:
        # Nothing of this was ever built: all downloads run while the base is made, and fail early.
        errors = await fetch_early(files)
        if errors:
            return failed_outcome(package, errors)

    ground = await make_foundation(FoundationRequest(plan.debian_lock), **implicitly())
    outcomes = await concurrently(
        build_package_layer(PackageLayerRequest(request.resolve, name), **implicitly()) for name in package.depends
    )
    culprits = {o.package for o in outcomes if o.failed is not None}.union(*(o.blocked_by for o in outcomes))
    if culprits:
        return PackageOutcome(package.full_name, FrozenDict(), blocked_by=tuple(sorted(culprits)))

    below = layers_below(plan.lock, outcomes)
    turn = turn_of(plan.lock, plan.remaining, plan.wanted.all(), package.name)
    known = dict(below)
    for name in turn.first:
        # Not by its own rule: when the lockfile changes, that may come to wait for this package, which would be a cycle.
        if stands_on(plan, name, known):
            small = await build_small(over(request.resolve, plan, ground, name, known), **implicitly())
            known.update({name: small.layer} if small.layer is not None else {})
    await concurrently(
        wait_for_ahead(AheadRequest(over(request.resolve, plan, ground, name, known)), **implicitly())
        for name in turn.ahead
        if stands_on(plan, name, known)
    )
    build = await make_build_process(over(request.resolve, plan, ground, package.name, below), **implicitly())
    built = await run_on_demand(OnDemandRequest(build.process, files), **implicitly())
    result = built.result
    if result is None:
        return failed_outcome(package, built.errors)
    failed = result.exit_code != 0
    if failed or opam.show_build_logs:
        log = await build_log(result)
        if opam.show_build_logs:
            await print_build_log(BuildLogRequest(package.full_name, log), **implicitly())
        if failed:
            return failed_outcome(package, [failure_text(result, log)], await build_failure(result, log))
    layer = await layer_of(result, build_description(package))
    return PackageOutcome(package.full_name, FrozenDict({**below, package.name: layer}))


def rules() -> list[object]:
    return [*collect_rules()]
