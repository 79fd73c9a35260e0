"""Makes the layer that makes opam's and dpkg's records right for an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opam_oci.images.parts import ImageParts
from opam_oci.layers.requests import package_json
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import run_layer_tool

if TYPE_CHECKING:
    from opam_sandbox.imaging.requests import StateRequest


async def make_state_layer(parts: ImageParts, below: tuple[Layer, ...]) -> Layer:
    """The layer that makes opam's and dpkg's records right for the image. `below`: all others, bottom first."""
    names = {union.package.name: union.package.full_name for union in parts.packages}
    values: StateRequest = {
        "store": STORE,
        "layers": layer_paths(below),
        "packages": [package_json(union.package, union.package.opam) for union in parts.packages],
        "roots": sorted({names[name] for selection in parts.selections for name in selection.names}),
    }
    if parts.overlapping_files:
        values["overlapping_files"] = list(parts.overlapping_files)
    call = Call("state", f"Make the state layer of {parts.address}", values, below, LAYER_OUTPUTS)
    return await run_layer_tool(call)
