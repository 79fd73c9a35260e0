"""Makes an image: its layers, its manifest and its config, as one OCI image layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterable, Mapping

from pants.engine.addresses import Address
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import Digest, DigestSubset, FileEntry, MergeDigests, PathGlobs
from pants.util.logging import LogLevel

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.images.config import CREATED, OCI_ARCHITECTURES, image_config
from opam_oci.images.environment import Variables
from opam_oci.images.packed_layer import packing_of
from opam_oci.images.parts import ImageParts, ImagePartsRequest, build_image_parts
from opam_oci.images.sbom import SBOM_GLOBS, sbom_json
from opam_oci.images.stack import flattened, full_stack, packed, runtime_stack
from opam_oci.pants_engine.calls import digest_subset_to_digest, merge_digests
from opam_oci.pants_engine.digests import file_entries, read_files
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.sandbox.layer import Layer, LayerError, blob_path, check_blobs
from opam_oci.sandbox.process import Call, layer_paths
from opam_oci.sandbox.run_tool import run_tool

if TYPE_CHECKING:
    from opam_sandbox.imaging.requests import HistoryEntry
    from opam_sandbox.imaging.requests import ImageRequest as ManifestRequest


@dataclass(frozen=True)
class ImageRequest(EngineAwareParameter):
    """Asks for an image.

    `companions`: further images that it is to share layers with. `for_docker`: it goes into a docker-archive, so that its
    layers are gzip whatever its field says, and it has no SBOM.
    """

    field_set: OciPackageImageFieldSet
    companions: tuple[OciPackageImageFieldSet, ...] = ()
    for_docker: bool = False

    def debug_hint(self) -> str:
        return str(self.field_set.address)


@dataclass(frozen=True)
class OciImage:
    """An image as an OCI layout. `layout` holds all of it, `sbom` the files of its SBOM (perhaps none).

    `index` is the text of index.json, `manifest` and `config` are digests "sha256:...", `layers` bottom first.
    """

    address: Address
    layout: Digest
    index: bytes
    manifest: str
    config: str
    layers: tuple[Layer, ...]
    sbom: Digest


def check_layout(blobs: Mapping[str, FileEntry], layers: Iterable[Layer], image: str) -> None:
    """Raise LayerError unless every blob is there and is what its name says."""
    check_blobs(blobs.values(), image)
    for layer in layers:
        if blob_path(layer.blob) not in blobs:
            raise LayerError(f"{image}: the blob {layer.blob} of the layer {layer.full_name} is missing.")


def manifest_request(
    request: ImageRequest,
    parts: ImageParts,
    base_lock: DebianLock,
    layers: tuple[Layer, ...],
    history: list[HistoryEntry],
    variables: Variables,
) -> ManifestRequest:
    """The request of the command `image`. Raises InvalidFieldException."""
    field_set = request.field_set
    architecture = parts.plan.rootfs.architecture
    values: ManifestRequest = {
        "layers": layer_paths(layers),
        "history": history,
        "architecture": OCI_ARCHITECTURES.get(architecture, architecture),
        "os": "linux",
        "config": image_config(field_set, variables),
        "annotations": dict(field_set.annotations.value or {}),
        "ref_name": "latest",
        "created": CREATED,
    }
    if field_set.sbom.value != "none" and not request.for_docker:
        values["sbom"] = sbom_json(
            parts, base_lock, attach=field_set.sbom.value == "attached", runtime=field_set.runtime.value
        )
    return values


async def assemble(address: Address, values: ManifestRequest, layers: tuple[Layer, ...]) -> OciImage:
    """Write the manifest and what belongs to it, and put the layers' blobs beside it. Raises LayerError."""
    outputs = ("index.json", "oci-layout", "image.json", "sbom.spdx.json", "sbom.cdx.json")
    result = await run_tool(Call("image", f"Write the manifest of {address}", values, layers, outputs))
    written = result.output_digest
    blobs = await concurrently(
        [
            digest_subset_to_digest(DigestSubset(written, PathGlobs(["index.json", "oci-layout", "blobs/**"]))),
            *(digest_subset_to_digest(DigestSubset(layer.digest, PathGlobs(["blobs/**"]))) for layer in layers),
        ]
    )
    layout = await merge_digests(MergeDigests(blobs))
    check_layout(await file_entries(layout, below="blobs/"), layers, str(address))
    texts = await read_files(written, "image.json", "index.json")
    summary = json.loads(texts["image.json"])
    return OciImage(
        address=address,
        layout=layout,
        index=texts["index.json"],
        manifest=summary["manifest_digest"],
        config=summary["config_digest"],
        layers=layers,
        sbom=await digest_subset_to_digest(DigestSubset(written, SBOM_GLOBS)),
    )


@rule(desc="Make an OCI image of opam packages", level=LogLevel.DEBUG)
async def make_image(request: ImageRequest) -> OciImage:
    """Build the packages, stack their layers, compress them as asked for, write the manifest. Raises LayerError."""
    field_set = request.field_set
    compression, level = packing_of(field_set, for_docker=request.for_docker)
    parts = await build_image_parts(ImagePartsRequest(field_set), **implicitly())
    if field_set.runtime.value:
        stack = await runtime_stack(field_set, parts)
    else:
        stack = await full_stack(field_set, request.companions, parts)
    if field_set.layers.value == "flat":
        flat, flat_history = await flattened(stack, parts.ground.base, compression, level)
        layers: tuple[Layer, ...] = (flat,)
        history = [flat_history]
    else:
        layers = await packed(stack, parts.ground.base, compression, level)
        history = [entry.history for entry in stack.entries]
    values = manifest_request(request, parts, stack.base_lock, layers, history, stack.variables)
    return await assemble(field_set.address, values, layers)


def rules() -> list[object]:
    return [*collect_rules()]
