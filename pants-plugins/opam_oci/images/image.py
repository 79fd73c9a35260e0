"""Makes an image: its layers, its manifest and its config, as one OCI image layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Mapping

from pants.engine.addresses import Address
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import CreateDigest, Digest, DigestSubset, FileContent, FileEntry, MergeDigests, PathGlobs
from pants.util.logging import LogLevel

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.images.config import CREATED, image_config
from opam_oci.images.image_texts import HistoryEntry
from opam_oci.images.manifest import ImageContent, write_image
from opam_oci.images.packed_layer import packing_of
from opam_oci.images.parts import ImageParts, ImagePartsRequest, build_image_parts
from opam_oci.images.provenance import provenance_content
from opam_oci.images.sbom import sbom_content
from opam_oci.images.stack import Stack, flattened, full_stack, packed, runtime_stack
from opam_oci.layers.base_image import OCI_ARCHITECTURES
from opam_oci.pants_engine.calls import create_digest, digest_subset_to_digest, merge_digests
from opam_oci.pants_engine.digests import file_entries
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.sandbox.layer import Layer, LayerError, blob_path, check_blobs
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class ImageRequest(EngineAwareParameter):
    """Asks for an image.

    `companions`: further images that it is to share layers with. `for_docker`: it goes into a docker-archive, so that its
    layers are gzip whatever its field says, and there are no documents about it.
    """

    field_set: OciPackageImageFieldSet
    companions: tuple[OciPackageImageFieldSet, ...] = ()
    for_docker: bool = False

    def debug_hint(self) -> str:
        return str(self.field_set.address)


@dataclass(frozen=True)
class OciImage:
    """An image as an OCI layout. `layout` holds all of it, `documents` the files about it that lie beside it (perhaps none).

    `index` is the text of index.json, `manifest` and `config` are digests "sha256:...", `layers` bottom first.
    """

    address: Address
    layout: Digest
    index: bytes
    manifest: str
    config: str
    layers: tuple[Layer, ...]
    documents: Digest


def check_layout(blobs: Mapping[str, FileEntry], layers: Iterable[Layer], image: str) -> None:
    """Raise LayerError unless every blob is there and is what its name says."""
    check_blobs(blobs.values(), image)
    for layer in layers:
        blob = blobs.get(blob_path(layer.blob))
        if blob is None:
            raise LayerError(f"{image}: the blob {layer.blob} of the layer {layer.full_name} is missing.")
        if blob.file_digest.serialized_bytes_length != layer.size:
            raise LayerError(
                f"{image}: the blob {layer.blob} of the layer {layer.full_name} has "
                f"{blob.file_digest.serialized_bytes_length} bytes, but should have {layer.size}."
            )


async def image_content(
    request: ImageRequest,
    parts: ImageParts,
    stack: Stack,
    layers: tuple[Layer, ...],
    history: tuple[HistoryEntry, ...],
    opam: OpamSubsystem,
) -> ImageContent:
    """What the manifest is made from. Raises InvalidFieldException, LayerError."""
    field_set = request.field_set
    architecture = parts.plan.rootfs.architecture
    sbom = provenance = None
    if field_set.sbom.value != "none" and not request.for_docker:
        attach = field_set.sbom.value == "attached"
        sbom = await sbom_content(parts, stack.base, layers, attach=attach, runtime=field_set.runtime.value)
    # Who wants no SBOM in index.json, or none at all, has not asked for another entry there.
    wanted = field_set.provenance.value or field_set.sbom.value
    if wanted != "none" and not request.for_docker:
        # Others have a part in an image only where packages were joined: else it is the same in a layout as by itself.
        joined = any(len(entry.layers) > 1 for entry in stack.entries)
        companions = [one.address for one in request.companions] if joined else []
        attach = wanted == "attached"
        provenance = await provenance_content(field_set, parts, stack.base, companions, opam, attach=attach)
    return ImageContent(
        layers=layers,
        history=history,
        architecture=OCI_ARCHITECTURES.get(architecture, architecture),
        os="linux",
        config=image_config(field_set, stack.variables),
        created=CREATED,
        annotations=dict(field_set.annotations.value or {}),
        ref_name="latest",
        sbom=sbom,
        provenance=provenance,
    )


def _files(texts: Mapping[str, bytes]) -> CreateDigest:
    return CreateDigest([FileContent(path, text) for path, text in texts.items()])


async def assemble(address: Address, content: ImageContent) -> OciImage:
    """Write the manifest and what belongs to it, and put the layers' blobs beside it. Raises LayerError."""
    texts = write_image(content)
    layers = content.layers
    blobs = await concurrently(
        [
            create_digest(_files(texts.layout)),
            create_digest(_files(texts.documents)),
            *(digest_subset_to_digest(DigestSubset(layer.digest, PathGlobs(["blobs/**"]))) for layer in layers),
        ]
    )
    layout = await merge_digests(MergeDigests([blobs[0], *blobs[2:]]))
    check_layout(await file_entries(layout, below="blobs/"), layers, str(address))
    return OciImage(
        address=address,
        layout=layout,
        index=texts.layout["index.json"],
        manifest=texts.manifest,
        config=texts.config,
        layers=layers,
        documents=blobs[1],
    )


@rule(desc="Make an OCI image of opam packages", level=LogLevel.DEBUG)
async def make_image(request: ImageRequest, opam: OpamSubsystem) -> OciImage:
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
        history: tuple[HistoryEntry, ...] = (flat_history,)
    else:
        layers, history = await packed(stack, parts.ground.base, compression, level, for_docker=request.for_docker)
    content = await image_content(request, parts, stack, layers, history, opam)
    return await assemble(field_set.address, content)


def rules() -> list[object]:
    return [*collect_rules()]
