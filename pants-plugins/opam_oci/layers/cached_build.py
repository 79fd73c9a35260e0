"""What the caches have of a package's build, without building or fetching anything."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pants.engine.engine_aware import EngineAwareParameter, EngineAwareReturnType
from pants.util.frozendict import FrozenDict

from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest, plan_build
from opam_oci.layers.foundation import (
    Foundation,
    FoundationRequest,
    KnownFoundationRequest,
    find_foundation,
    make_foundation,
)
from opam_oci.layers.package import build_description, make_build_process, over
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.sandbox.failure import build_log
from opam_oci.sandbox.layer import Layer, layer_of
from opam_oci.sandbox.look import look_up
from opam_oci.sandbox.on_demand import OnDemandRequest, run_on_demand


@dataclass(frozen=True)
class CachedBuildRequest(EngineAwareParameter):
    """Asks for what is cached of a package of a resolve. made: all of it was asked for in this run before, and what was then
    not known is now."""

    resolve: str
    package: str
    made: bool = False

    def debug_hint(self) -> str:
        return f"{self.package} ({self.resolve})"


@dataclass(frozen=True)
class CachedBuild(EngineAwareReturnType):
    """log: None if there is no build, or what it stands on is not there. layers: of it and of all that it depends on, by name."""

    package: str
    log: str | None
    layers: FrozenDict[str, Layer]

    def cacheable(self) -> bool:
        return self.log is not None


async def ground_of(request: CachedBuildRequest, plan: BuildPlan) -> Foundation | None:
    """The base and opam's root; None where no cache has them."""
    if request.made:
        return await make_foundation(FoundationRequest(plan.debian_lock), **implicitly())
    known = await find_foundation(KnownFoundationRequest(plan.debian_lock), **implicitly())
    return known.foundation


@rule
async def find_cached_build(request: CachedBuildRequest) -> CachedBuild:
    """The package's build as the caches have it, over what they have of its dependencies."""
    plan = await plan_build(BuildPlanRequest(request.resolve), **implicitly())
    package = plan.lock.packages[request.package]
    nothing = CachedBuild(package.full_name, None, FrozenDict())
    ground = await ground_of(request, plan)
    if ground is None:
        return nothing
    outcomes = await concurrently(
        find_cached_build(dataclasses.replace(request, package=name), **implicitly()) for name in package.depends
    )
    if any(outcome.log is None for outcome in outcomes):
        return nothing
    known = {name: layer for outcome in outcomes for name, layer in outcome.layers.items()}
    asked = over(request.resolve, plan, ground, package.name, known)
    build = await make_build_process(asked, **implicitly())
    if request.made:
        found = (await run_on_demand(OnDemandRequest(build.process, (), only_try=True), **implicitly())).result
    else:
        found = await look_up(build.process)
    if found is None or found.exit_code != 0:
        return nothing
    log = await build_log(found)
    layer = await layer_of(found, build_description(package))
    return CachedBuild(package.full_name, log, FrozenDict({**known, package.name: layer}))


def rules() -> list[object]:
    return [*collect_rules()]
