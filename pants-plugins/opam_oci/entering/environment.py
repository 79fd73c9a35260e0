"""What a person's command runs over: packages of a resolve, built, with all that they depend on, as in an image of theirs."""

from __future__ import annotations

from dataclasses import dataclass

from pants.engine.engine_aware import EngineAwareParameter
from pants.util.logging import LogLevel

from opam_oci.entering.errors import EnteringError
from opam_oci.images.state_layer import make_state
from opam_oci.layers.build_plan import BuildPlanRequest, plan_build
from opam_oci.layers.foundation import FoundationRequest, make_foundation
from opam_oci.layers.outcomes import failures_among
from opam_oci.layers.package import PackageLayerRequest, PackageOutcome, build_package_layer
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.sandbox.layer import Layer
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class EnvironmentRequest(EngineAwareParameter):
    """Asks for these packages of a resolve, sorted by name. purpose: what for, as in "there is nothing to run it in"."""

    resolve: str
    names: tuple[str, ...]
    purpose: str = "to run it in"

    def debug_hint(self) -> str:
        return f"{', '.join(self.names)} ({self.resolve})"


@dataclass(frozen=True)
class BuiltEnvironment:
    """layers: bottom first, the last is the state; packages: those of `names` and all that they depend on, by name."""

    layers: tuple[Layer, ...]
    packages: tuple[str, ...]

    def layer_of(self, package: str) -> Layer:
        """The layer of one of the packages."""
        return self.layers[2 + self.packages.index(package)]


def check_outcomes(outcomes: tuple[PackageOutcome, ...], purpose: str) -> None:
    """Raise EnteringError, with what failed and why, unless all are built."""
    failed = sorted(set(failures_among(outcomes)[0]))
    blocked = sorted(one.package for one in outcomes if one.blocked_by)
    if failed or blocked:
        of = f" ({', '.join(blocked)} because of that)" if blocked else ""
        raise EnteringError("\n\n".join([f"There is nothing {purpose}, as packages were not built{of}.", *failed]))


@rule(desc="Build what a command runs over", level=LogLevel.DEBUG)
async def build_environment(request: EnvironmentRequest, opam: OpamSubsystem) -> BuiltEnvironment:
    """Build the packages and what they stand on. Raises EnteringError, LayerError."""
    plan = await plan_build(BuildPlanRequest(request.resolve), **implicitly())
    names = plan.lock.image_closure(request.names)
    plan.wanted.add(names)
    outcomes = await concurrently(
        build_package_layer(PackageLayerRequest(request.resolve, name), **implicitly()) for name in names
    )
    check_outcomes(outcomes, request.purpose)
    ground = await make_foundation(FoundationRequest(plan.debian_lock), **implicitly())
    below = (*ground.layers, *(outcome.layers[name] for name, outcome in zip(names, outcomes)))
    packages = plan.lock.packages
    state = await make_state(
        ", ".join(packages[name].full_name for name in request.names) or f"the resolve {request.resolve}",
        [packages[name] for name in names],
        [packages[name] for name in request.names],
        tuple(sorted(opam.overlapping_files)),
        below,
    )
    return BuiltEnvironment((*below, state), names)


def rules() -> list[object]:
    return [*collect_rules()]
