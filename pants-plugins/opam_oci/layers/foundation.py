"""Makes what all packages stand on: the base, and opam's root in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.engine_aware import EngineAwareReturnType
from pants.util.logging import LogLevel

from opam_oci.layers.base import BaseLayerRequest, make_base_layer, start_base
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer, layer_of
from opam_oci.sandbox.look import look_up
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import process_of, run_layer_tool

if TYPE_CHECKING:
    from opam_sandbox.building.requests import OpamRootRequest


@dataclass(frozen=True)
class FoundationRequest:
    """What all packages over a base stand on."""

    debian_lock: DebianLock


@dataclass(frozen=True)
class Foundation:
    """The two layers below all packages."""

    base: Layer
    opam_root: Layer

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Both, the lower one first."""
        return (self.base, self.opam_root)


@dataclass(frozen=True)
class KnownFoundationRequest:
    """Asks for what all packages over a base stand on, if it is known."""

    debian_lock: DebianLock


@dataclass(frozen=True)
class KnownFoundation(EngineAwareReturnType):
    """It; None if no cache has it."""

    foundation: Foundation | None

    def cacheable(self) -> bool:
        return self.foundation is not None


def opam_root_call(base: Layer) -> Call:
    """The call that makes opam's root in a base."""
    values: OpamRootRequest = {"store": STORE, "layers": layer_paths((base,))}
    return Call("opam-root", f"Prepare opam in the base {base.name}", values, (base,), LAYER_OUTPUTS)


@rule(desc="Prepare opam in the base", level=LogLevel.DEBUG)
async def make_foundation(request: FoundationRequest) -> Foundation:
    """The base, and opam's root in it. Raises LayerError, FetchError."""
    base = await make_base_layer(BaseLayerRequest(request.debian_lock), **implicitly())
    return Foundation(base, await run_layer_tool(opam_root_call(base)))


@rule
async def find_foundation(request: KnownFoundationRequest) -> KnownFoundation:
    """The same, but nothing is made or fetched for it."""
    start = await start_base(BaseLayerRequest(request.debian_lock), **implicitly())
    if not start.cached:
        return KnownFoundation(None)
    base = await make_base_layer(BaseLayerRequest(request.debian_lock), **implicitly())
    call = opam_root_call(base)
    found = await look_up(await process_of(call))
    return KnownFoundation(None if found is None else Foundation(base, await layer_of(found, call.description)))


def rules() -> list[object]:
    return [*collect_rules()]
