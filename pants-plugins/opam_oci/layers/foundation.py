"""Makes what all packages stand on: the base, and opam's root in it."""

from __future__ import annotations

from dataclasses import dataclass

from pants.engine.fs import CreateDigest
from pants.util.logging import LogLevel

from opam_oci.layers.base import BaseLayerRequest, make_base_layer
from opam_oci.pants_engine.calls import create_digest, run_process
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.sandbox.layer import _LAYER_OUTPUTS, Layer, LayerError, build_log, failure_text, layer_of
from opam_oci.sandbox.process import Call, layer_paths, request_file, tool_process
from opam_oci.sandbox.tool import find_sandbox_tool


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
        return (self.base, self.opam_root)


@rule(desc="Prepare opam in the base", level=LogLevel.DEBUG)
async def make_foundation(request: FoundationRequest) -> Foundation:
    base = await make_base_layer(BaseLayerRequest(request.debian_lock), **implicitly())
    tool = await find_sandbox_tool(**implicitly())
    description = f"Prepare opam in the base {base.name}"
    values = {"store": "store", "layers": layer_paths((base,))}
    result = await run_process(
        tool_process(
            tool,
            Call("opam-root", description, values, (base,), _LAYER_OUTPUTS),
            await create_digest(CreateDigest([request_file(values)])),
        )
    )
    if result.exit_code != 0:
        log = await build_log(result)
        raise LayerError(f"{description} failed.\n{failure_text(result, log, whole_log=False)}")
    return Foundation(base, await layer_of(result, description))


def rules() -> list[object]:
    return [*collect_rules()]
