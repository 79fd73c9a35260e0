"""Makes the layer that makes opam's and dpkg's records right for an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable

from opam_oci.images.parts import ImageParts
from opam_oci.layers.requests import package_json
from opam_oci.resolves.lockfile import LockedPackage
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import run_layer_tool

if TYPE_CHECKING:
    from opam_sandbox.imaging.requests import StateRequest


async def make_state(
    of: str,
    packages: Iterable[LockedPackage],
    roots: Iterable[LockedPackage],
    overlapping_files: tuple[str, ...],
    below: tuple[Layer, ...],
) -> Layer:
    """The layer that makes opam's and dpkg's records right for these packages, which are all that are in `below`, all other
    layers, bottom first. of: whose state it is, for people."""
    values: StateRequest = {
        "store": STORE,
        "layers": layer_paths(below),
        "packages": [package_json(package, package.opam) for package in packages],
        "roots": sorted({package.full_name for package in roots}),
    }
    if overlapping_files:
        values["overlapping_files"] = list(overlapping_files)
    return await run_layer_tool(Call("state", f"Make the state layer of {of}", values, below, LAYER_OUTPUTS))


async def make_state_layer(parts: ImageParts, below: tuple[Layer, ...]) -> Layer:
    """The same for an image."""
    packages = {union.package.name: union.package for union in parts.packages}
    roots = [packages[name] for selection in parts.selections for name in selection.names]
    return await make_state(str(parts.address), packages.values(), roots, parts.overlapping_files, below)
