"""Makes what all packages stand on: the base, and opam's root in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.util.logging import LogLevel

from opam_oci.layers.base import BaseLayerRequest, make_base_layer
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import run_layer_tool

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


@rule(desc="Prepare opam in the base", level=LogLevel.DEBUG)
async def make_foundation(request: FoundationRequest) -> Foundation:
    """The base, and opam's root in it. Raises LayerError, FetchError."""
    base = await make_base_layer(BaseLayerRequest(request.debian_lock), **implicitly())
    values: OpamRootRequest = {"store": STORE, "layers": layer_paths((base,))}
    call = Call("opam-root", f"Prepare opam in the base {base.name}", values, (base,), LAYER_OUTPUTS)
    return Foundation(base, await run_layer_tool(call))


def rules() -> list[object]:
    return [*collect_rules()]
