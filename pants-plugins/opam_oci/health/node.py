"""Builds one package of a health check over its dependencies. A failure is a value."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, Iterable, Mapping

from pants.engine.engine_aware import EngineAwareParameter, EngineAwareReturnType
from pants.engine.process import FallibleProcessResult, Process, ProcessCacheScope, ProcessResultMetadata
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from opam_oci.downloads.fetch import FetchRequest
from opam_oci.health.classify import BuildHints, classify
from opam_oci.health.clock import clock_of_this_run
from opam_oci.health.plan import HealthPlan, HealthPlanRequest, plan_health
from opam_oci.health.results import FailureKind, PackageResult, Status
from opam_oci.layers.foundation import (
    Foundation,
    FoundationRequest,
    KnownFoundationRequest,
    find_foundation,
    make_foundation,
)
from opam_oci.layers.opam_text import commands_of_field
from opam_oci.layers.package import build_description, build_process_of, files_of
from opam_oci.layers.requests import build_request
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.health_lock import HealthNode
from opam_oci.sandbox.failure import BuildFailure, build_failure, build_log
from opam_oci.sandbox.layer import Layer, layer_of
from opam_oci.sandbox.look import look_up
from opam_oci.sandbox.on_demand import OnDemandProcess, OnDemandRequest, run_on_demand
from opam_oci.subsystems.opam import OpamSubsystem


class Mode(Enum):
    """How a package is asked for."""

    BUILD = "build"
    # A failure that is remembered does not count.
    RETRY = "retry"
    # From a cache, or not at all.
    LOOK = "look"


@dataclass(frozen=True)
class NodeRequest(EngineAwareParameter):
    """One node of a check's lockfile, and with it all below it. limited: builds that would start late are not started."""

    plan: HealthPlanRequest
    node: str
    mode: Mode
    limited: bool = False

    def debug_hint(self) -> str:
        return f"{self.node} ({self.plan.resolve})"


@dataclass(frozen=True)
class NodeOutcome(EngineAwareReturnType):
    """What became of a node. layers: its own and those of all below it, by the packages' names, if it is built. log: of a
    build that failed. ended: when it was known, in seconds of the epoch; 0 of what was not built."""

    result: PackageResult
    layers: FrozenDict[str, Layer] = FrozenDict()
    log: str = ""
    ended: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it is built."""
        return self.result.status == Status.SUCCESS

    def level(self) -> LogLevel | None:
        return LogLevel.WARN if self.result.status in (Status.FAILURE, Status.TIMED_OUT) else None

    def message(self) -> str | None:
        if self.level() is None:
            return None
        return f"{self.result.full_name}: {self.result.reason or self.result.status.value}"

    def cacheable(self) -> bool:
        # What may be otherwise in the next run is asked for again, also under the same daemon.
        if self.result.status == Status.FAILURE:
            return self.result.kind != FailureKind.TRANSIENT
        return self.result.status in (Status.SUCCESS, Status.NO_SOURCE, Status.NO_DEPEXT)


def result_of(node: HealthNode, status: Status, **more: Any) -> PackageResult:
    """A node's result."""
    package = node.package
    return dataclasses.replace(
        PackageResult(node.id, package.name, package.version, status, depends=node.depends), **more
    )


def out_of_reach(node: HealthNode) -> PackageResult | None:
    """The result of a node that cannot be built from the lockfile; None for one that can."""
    package = node.package
    if package.out_of_reach:
        missing = ", ".join(url for source in package.out_of_reach for url in source.urls[:1])
        return result_of(node, Status.NO_SOURCE, reason=f"no place has {missing}")
    if package.depexts_out_of_reach:
        return result_of(node, Status.NO_DEPEXT, reason=package.depexts_out_of_reach)
    return None


def blocked(node: HealthNode, outcomes: Iterable[NodeOutcome]) -> PackageResult | None:
    """The result of a node that stands on one that is not built; None if all are."""
    bad = [outcome.result for outcome in outcomes if not outcome.ok]
    if not bad:
        return None
    culprits = {one for result in bad for one in (result.blocked_by or (result.id,))}
    # Nobody knows yet whether the others would build.
    for status in (Status.CANCELLED, Status.NOT_BUILT):
        if all(result.status == status for result in bad):
            return result_of(node, status, reason="what it is built over is not there")
    return result_of(node, Status.DEPENDENCY_FAILED, blocked_by=tuple(sorted(culprits)))


async def failure_of(node: HealthNode, result: FallibleProcessResult) -> tuple[PackageResult, BuildFailure]:
    """Why a build failed."""
    failure = await build_failure(result, await build_log(result))
    if failure.timed_out:
        said = result_of(node, Status.TIMED_OUT, kind=FailureKind.TRANSIENT, reason=failure.message.splitlines()[0])
        return said, failure
    tests = commands_of_field(node.package.opam, "run-test") if node.with_test else ()
    hints = BuildHints(tests, offline=True, killed=failure.kind in ("limit", "memory", "killed"))
    kind, line = classify(f"{failure.log}\n{failure.message}", hints)
    if hints.killed:
        line = failure.message.splitlines()[0]
    return result_of(node, Status.FAILURE, kind=kind, reason=line), failure


def is_passing(result: PackageResult) -> bool:
    """Whether a failure says more of the machine, or of an option, than of the package."""
    return result.kind == FailureKind.TRANSIENT or result.status == Status.TIMED_OUT


@dataclass(frozen=True)
class NodeProcessRequest:
    """Asks for the process that builds a node over these layers, base and opam's root among them."""

    plan: HealthPlanRequest
    node: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class NodeProcess:
    """It, which nobody has run, and what has to be fetched if no cache has its result."""

    process: Process
    files: tuple[FetchRequest, ...]


@rule
async def make_node_process(request: NodeProcessRequest, opam: OpamSubsystem) -> NodeProcess:
    """The same process as a resolve has that builds the same package over the same layers."""
    plan = await plan_health(request.plan, **implicitly())
    node = plan.lock.nodes[request.node]
    package = node.package
    debs = tuple(plan.lock.debs[name] for name in package.debs)
    values = build_request(
        package,
        plan.opam_texts[package.full_name],
        debs,
        request.layers,
        node.later,
        opam.check_depexts,
        opam.depext_files_left_out,
        opam.overlapping_files,
        node.with_test,
    )
    process = await build_process_of(package, values, debs, request.layers)
    return NodeProcess(process, files_of(package, debs, plan.lock.resolve))


def came_from_cache(result: FallibleProcessResult) -> bool:
    """Whether a result was made in some earlier run."""
    return result.metadata._source != ProcessResultMetadata.Source.RAN.value


async def run_node(request: NodeRequest, node: HealthNode, made: NodeProcess) -> OnDemandProcess:
    """The result of a node's process; none where it was only looked for and is not known, or where a file could not be had."""
    if request.mode == Mode.LOOK:
        return OnDemandProcess(await look_up(made.process), ())
    if request.mode == Mode.BUILD:
        # Failures count as well: to build what does not build takes as long as to build what does.
        remembered = dataclasses.replace(made.process, cache_scope=ProcessCacheScope.ALWAYS)
        found = await run_on_demand(OnDemandRequest(remembered, made.files), **implicitly())
        if found.result is None or not came_from_cache(found.result) or found.result.exit_code == 0:
            return found
        result, _ = await failure_of(node, found.result)
        if not is_passing(result):
            return found
    return await run_on_demand(OnDemandRequest(made.process, made.files), **implicitly())


async def outcome_of(node: HealthNode, found: OnDemandProcess, below: Mapping[str, Layer]) -> NodeOutcome:
    """What became of a node whose process was run."""
    if found.result is None:
        reason = " ".join((found.errors or ("a file that it needs could not be had",))[0].split())
        return NodeOutcome(result_of(node, Status.FAILURE, kind=FailureKind.TRANSIENT, reason=reason))
    done = found.result
    elapsed = done.metadata.total_elapsed_ms
    facts: dict[str, Any] = {"seconds": None if elapsed is None else elapsed / 1000, "cached": came_from_cache(done)}
    if done.exit_code != 0:
        result, failure = await failure_of(node, done)
        log = f"{failure.log}\n{failure.message}\n".lstrip("\n")
        return NodeOutcome(dataclasses.replace(result, **facts), log=log, ended=time.time())
    layer = await layer_of(done, build_description(node.package))
    result = result_of(node, Status.SUCCESS, layer=layer.blob, size=layer.size, **facts)
    return NodeOutcome(result, FrozenDict({**below, node.package.name: layer}), ended=time.time())


async def ground_of(request: NodeRequest, plan: HealthPlan) -> Foundation | None:
    """The base and opam's root; None where they are only looked for and not known."""
    if request.mode == Mode.LOOK:
        known = await find_foundation(KnownFoundationRequest(plan.debian_lock), **implicitly())
        return known.foundation
    return await make_foundation(FoundationRequest(plan.debian_lock), **implicitly())


@rule(desc="Check opam package", level=LogLevel.DEBUG)
async def check_node(request: NodeRequest) -> NodeOutcome:
    """Asks for what is below it itself, so that each package builds as soon as that is there. Never raises for a package."""
    plan = await plan_health(request.plan, **implicitly())
    node = plan.lock.nodes[request.node]
    missing = out_of_reach(node)
    if missing is not None:
        return NodeOutcome(missing)
    outcomes = await concurrently(
        check_node(dataclasses.replace(request, node=one), **implicitly()) for one in node.depends
    )
    stopped = blocked(node, outcomes)
    if stopped is not None:
        return NodeOutcome(stopped)
    known = {name: layer for outcome in outcomes for name, layer in outcome.layers.items()}
    below = {one.package.name: known[one.package.name] for one in plan.lock.below(node.id)}
    ground = await ground_of(request, plan)
    if ground is None:
        return NodeOutcome(result_of(node, Status.NOT_BUILT, reason="the base is not known"))
    layers = (*ground.layers, *below.values())
    made = await make_node_process(NodeProcessRequest(request.plan, node.id, layers), **implicitly())
    if request.limited:
        clock = await clock_of_this_run(**implicitly())
        if clock.is_over():
            return NodeOutcome(result_of(node, Status.CANCELLED, reason="the run's time was over"))
    found = await run_node(request, node, made)
    if found.result is None and request.mode == Mode.LOOK:
        return NodeOutcome(result_of(node, Status.NOT_BUILT))
    return await outcome_of(node, found, below)


def rules() -> list[object]:
    return [*collect_rules()]
