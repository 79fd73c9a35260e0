"""What an exported switch is made of: the layers of a resolve's packages, and the environment that opam gives over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from pants.engine.engine_aware import EngineAwareParameter

from opam_oci.exporting.host_match import check_host_matches, this_export_host
from opam_oci.images.environment import Variables, environment_of
from opam_oci.images.state_layer import make_state
from opam_oci.layers.build_plan import BuildPlanRequest, plan_build
from opam_oci.layers.foundation import FoundationRequest, make_foundation
from opam_oci.layers.package import PackageLayerRequest, PackageOutcome, build_package_layer
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.lockfile import DEBIANS_OCAML, LockedPackage
from opam_oci.sandbox.layer import Layer
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_export import OpamExportSubsystem


class ExportFailedError(Exception):
    """Packages of a resolve could not be built; the message tells all about each."""


@dataclass(frozen=True)
class SwitchRequest(EngineAwareParameter):
    """Asks for what the switch of a resolve is made of."""

    resolve: str

    def debug_hint(self) -> str:
        return self.resolve


@dataclass(frozen=True)
class Switch:
    """packages: those in the switch, dependencies first, with their layers. variables: what `opam env` gives over them.
    compiler: the version of the base's own OCaml that they were built by, "" where the switch has its own."""

    packages: tuple[LockedPackage, ...]
    layers: tuple[Layer, ...]
    variables: Variables
    compiler: str


def is_local(package: LockedPackage) -> bool:
    """Whether it is a package of this repository, which is built where it is edited."""
    return bool(package.local)


def check_built(resolve: str, outcomes: Iterable[PackageOutcome]) -> None:
    """Raise ExportFailedError unless every package has its layer."""
    failed = sorted({(one.package, one.failed) for one in outcomes if one.failed is not None})
    if failed:
        raise ExportFailedError(
            "\n\n".join(
                [
                    f"The opam resolve `{resolve}` was not exported, as packages failed: "
                    f"{', '.join(package for package, _ in failed)}. What was exported before is as it was.",
                    *(f"{package} failed: {message}" for package, message in failed),
                ]
            )
        )


@rule
async def find_switch(request: SwitchRequest, opam: OpamSubsystem, options: OpamExportSubsystem) -> Switch:
    """Build the packages of a resolve. Raises ExportHostError, ExportFailedError, LayerError."""
    plan = await plan_build(BuildPlanRequest(request.resolve), **implicitly())
    if options.check_host:
        check_host_matches(request.resolve, str(plan.rootfs.address), plan.debian_lock, this_export_host())
    lock = plan.lock
    # A package that stands on a local one is built over it all the same.
    built = lock.build_closure(name for name, package in lock.packages.items() if not is_local(package))
    names = [name for name in built if not is_local(lock.packages[name])]
    plan.wanted.add(built)
    outcomes = await concurrently(
        build_package_layer(PackageLayerRequest(request.resolve, name), **implicitly()) for name in built
    )
    check_built(request.resolve, outcomes)
    layers = {name: outcome.layers[name] for name, outcome in zip(built, outcomes)}
    ground = await make_foundation(FoundationRequest(plan.debian_lock), **implicitly())
    below = (*ground.layers, *layers.values())
    packages = [lock.packages[name] for name in built]
    overlapping_files = tuple(sorted(opam.overlapping_files))
    state = await make_state(f"the resolve {request.resolve}", packages, packages, overlapping_files, below)
    variables = await environment_of(state)
    compiler = lock.packages[DEBIANS_OCAML].version if DEBIANS_OCAML in names else ""
    return Switch(
        tuple(lock.packages[name] for name in names), tuple(layers[name] for name in names), variables, compiler
    )


def rules() -> list[object]:
    return [*collect_rules()]
