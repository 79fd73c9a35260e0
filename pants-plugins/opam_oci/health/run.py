"""Runs a health check: all its packages, in stages, to one report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Mapping

from pants.util.frozendict import FrozenDict

from opam_oci.health.clock import clock_of_this_run
from opam_oci.health.node import Mode, NodeOutcome, NodeRequest, check_node
from opam_oci.health.plan import HealthPlanRequest, plan_health
from opam_oci.health.results import HealthReport, PackageResult, RootResult, Status
from opam_oci.pants_engine.rules import concurrently, implicitly
from opam_oci.resolves.health_lock import HealthLock, HealthRoot
from opam_oci.resolves.targets import address_text


@dataclass(frozen=True)
class HealthRun:
    """A report, and the logs of builds that failed, by the package's id."""

    report: HealthReport
    logs: FrozenDict[str, str]


def stages_of(lock: HealthLock, changed: tuple[str, ...]) -> list[list[str]]:
    """The ids of all nodes that roots need, in stages. changed: names of packages whose dependents are looked at: those that
    depend on one of them themselves come first, then those that depend on these; without, there is one stage."""
    needed = lock.needed({one for root in lock.roots for one in (root.node, *root.later) if one})
    if not changed:
        return [sorted(needed)]
    distances: dict[str, int] = {}
    for one in lock.in_build_order(needed):
        node = lock.nodes[one]
        if node.package.name in changed:
            distances[one] = 0
        else:
            below = [distances[other] + 1 for other in node.depends if other in distances]
            if below:
                distances[one] = min(below)
    stages: dict[int, list[str]] = {}
    for root in lock.roots:
        if root.node:
            stages.setdefault(distances.get(root.node, len(needed)), []).extend((root.node, *root.later))
    return [sorted(lock.needed(ids)) for _, ids in sorted(stages.items())]


def root_result(root: HealthRoot, packages: Mapping[str, PackageResult]) -> RootResult:
    """How it went with a root."""
    if not root.node:
        return RootResult(root.name, root.version, Status.NO_SOLUTION, root.compiler, reason=root.reason)
    own = packages[root.node]
    status, reason = own.status, own.reason
    if status == Status.SUCCESS:
        # What opam wants beside a package it wants installed, too.
        for one in root.later:
            later = packages[one]
            if later.status != Status.SUCCESS:
                status = (
                    later.status if later.status in (Status.CANCELLED, Status.NOT_BUILT) else Status.DEPENDENCY_FAILED
                )
                reason = f"{later.full_name}, which opam installs along with it: {later.status.value}"
                break
    return RootResult(root.name, root.version, status, root.compiler, root.node, root.later, reason)


async def run_check(request: HealthPlanRequest, mode: Mode, *, limited: bool) -> HealthRun:
    """Build, or look for, all that a check asks for. Raises what keeps all of it from being built; never for one package."""
    clock = await clock_of_this_run(**implicitly())
    plan = await plan_health(request, **implicitly())
    outcomes: dict[str, NodeOutcome] = {}
    changed = tuple(one.partition(".")[0] for one in request.revdeps_of)
    for ids in stages_of(plan.lock, changed):
        found = await concurrently(
            check_node(NodeRequest(request, one, mode, limited), **implicitly()) for one in ids if one not in outcomes
        )
        outcomes.update({outcome.result.id: outcome for outcome in found})
    packages = {one: in_run(outcome, clock.began, plan.lock) for one, outcome in sorted(outcomes.items())}
    report = HealthReport(
        target=address_text(plan.inputs.address),
        base=address_text(plan.inputs.base),
        repositories=plan.lock.repositories,
        roots=tuple(root_result(root, packages) for root in plan.lock.roots),
        packages=FrozenDict(packages),
        seconds=None if mode == Mode.LOOK else clock.elapsed(),
    )
    return HealthRun(report, FrozenDict({one: outcome.log for one, outcome in outcomes.items() if outcome.log}))


def in_run(outcome: NodeOutcome, began: float, lock: HealthLock) -> PackageResult:
    """A result as of this run: a daemon may know it from an earlier one."""
    result = outcome.result
    cached = result.cached or outcome.ended < began
    started = None
    if not cached and result.seconds is not None:
        started = max(0.0, outcome.ended - result.seconds - began)
    return dataclasses.replace(
        result,
        cached=cached and bool(outcome.ended),
        started=started,
        accept_failures=lock.nodes[result.id].accept_failures,
    )
