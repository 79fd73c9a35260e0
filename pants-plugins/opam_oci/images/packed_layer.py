"""Makes one layer of several, or compresses one anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.target import InvalidFieldException
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.image import OciImageCompressionLevelField
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import run_layer_tool

if TYPE_CHECKING:
    from opam_sandbox.imaging.requests import MergeRequest, RepackRequest

Compression = Literal["gzip", "zstd", "zstd:chunked", "none"]


@dataclass(frozen=True)
class PackedLayerRequest(EngineAwareParameter):
    """Asks for one layer out of one or more that lie on one another, compressed anew.

    `base` is the base whose programs compress. whole: the layers are an image, base and all. level 0: the default.
    foreign_base: the image stands on one that others made, which perhaps has no program that compresses.
    """

    base: Layer
    layers: tuple[Layer, ...]
    compression: Compression
    level: int
    whole: bool = False
    foreign_base: bool = False

    def debug_hint(self) -> str:
        return ", ".join(layer.full_name for layer in self.layers[:3])


# How package layers are made: they need not be compressed again for this.
AS_MADE = ("gzip", 5)

_LEVELS = {"gzip": (1, 9), "zstd": (1, 19), "zstd:chunked": (1, 19)}


def packing_of(field_set: OciPackageImageFieldSet, *, for_docker: bool) -> tuple[Compression, int]:
    """The compression of an image's layers and its level (0: default). Raises InvalidFieldException for an unknown level."""
    if for_docker:
        return ("gzip", 0)
    # The field takes no other values.
    compression = cast(Compression, field_set.compression.value)
    level = field_set.compression_level.value
    lowest, highest = _LEVELS.get(compression, (0, 0))
    if level is not None and not lowest <= level <= highest:
        takes = f"takes {lowest} to {highest}" if highest else "has no levels"
        raise InvalidFieldException(
            f"The `{OciImageCompressionLevelField.alias}` field in target {field_set.address} is {level}, but {compression} "
            f"{takes}."
        )
    return (compression, level or 0)


@rule(desc="Pack layer", level=LogLevel.DEBUG)
async def pack_layer(request: PackedLayerRequest) -> Layer:
    """One layer with the content of all. Raises LayerError."""
    if len(request.layers) == 1 and not request.whole:
        [layer] = request.layers
        layers: tuple[Layer, ...] = (request.base,) if layer == request.base else (request.base, layer)
        description = f"Compress {layer.full_name} with {request.compression}"
        values: RepackRequest = {
            "store": STORE,
            "layers": layer_paths(layers),
            "compression": request.compression,
            "level": request.level,
        }
        return await run_layer_tool(Call("repack", description, values, layers, LAYER_OUTPUTS))
    first, last = request.layers[0].full_name, request.layers[-1].full_name
    description = f"Join the layers of {pluralize(len(request.layers), 'package')} ({first} ... {last})"
    if request.whole:
        description = f"Join all {len(request.layers)} layers of an image ({first} ... {request.layers[-2].full_name})"
    layers = request.layers if request.whole else (request.base, *request.layers)
    merge: MergeRequest = {
        "store": STORE,
        "layers": layer_paths(layers),
        "compression": request.compression,
        "level": request.level,
        "name": "image" if request.whole else "group",
        "whole": request.whole,
    }
    if request.foreign_base:
        layers = (*layers, request.base)
        merge["packer"] = layer_paths(layers)[-1]
    return await run_layer_tool(Call("merge", description, merge, layers, LAYER_OUTPUTS))


def rules() -> list[object]:
    return [*collect_rules()]
