"""Makes an image: its layers, its manifest and its config, as one OCI image layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterable

from pants.engine.addresses import Address
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import CreateDigest, Digest, DigestSubset, FileEntry, MergeDigests, PathGlobs
from pants.util.logging import LogLevel

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.images.config import _OCI_ARCHITECTURES, CREATED, image_config
from opam_oci.images.history import _OPAM_ROOT_HISTORY, _STATE_HISTORY, base_history, package_history
from opam_oci.images.layering import groups_of
from opam_oci.images.packed_layer import _AS_MADE, PackedLayerRequest, pack_layer, packing_of
from opam_oci.images.parts import ImagePartsRequest, build_image_parts
from opam_oci.images.runtime_layer import RuntimeLayerRequest, make_runtime_layer, slim_base_lock
from opam_oci.images.sbom import SBOM_GLOBS, sbom_json
from opam_oci.images.state_layer import make_state_layer
from opam_oci.layers.base import BaseLayerRequest, make_base_layer
from opam_oci.pants_engine.calls import (
    create_digest,
    digest_subset_to_digest,
    get_digest_contents,
    get_digest_entries,
    merge_digests,
    run_process,
)
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.sandbox.layer import Layer, LayerError, blob_path, check_blobs, failure_text
from opam_oci.sandbox.process import Call, layer_paths, request_file, tool_process
from opam_oci.sandbox.tool import find_sandbox_tool


@dataclass(frozen=True)
class ImageRequest(EngineAwareParameter):
    """Asks for an image. `companions`: further images that it is to share layers with. `plain`: with gzip layers
    whatever its field says, and without SBOM."""

    field_set: OciPackageImageFieldSet
    companions: tuple[OciPackageImageFieldSet, ...] = ()
    plain: bool = False

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


def check_layout(entries: Iterable[object], layers: Iterable[Layer], image: str) -> None:
    """Raise LayerError unless every blob is there and is what its name says."""
    blobs = {e.path: e for e in entries if isinstance(e, FileEntry) and e.path.startswith("blobs/")}
    check_blobs(blobs.values(), image)
    for layer in layers:
        if blob_path(layer.blob) not in blobs:
            raise LayerError(f"{image}: the blob {layer.blob} of the layer {layer.full_name} is missing.")


@rule(desc="Make an OCI image of opam packages", level=LogLevel.DEBUG)
async def make_image(request: ImageRequest) -> OciImage:
    field_set = request.field_set
    image = field_set.address
    compression, level = packing_of(field_set, plain=request.plain)
    parts = await build_image_parts(ImagePartsRequest(field_set), **implicitly())
    base = parts.ground.base
    base_lock = parts.plan.debian_lock
    # What becomes a layer of the image, with its history.
    stack: list[tuple[tuple[Layer, ...], dict[str, str]]]
    if field_set.runtime.value:
        slim_lock = await slim_base_lock(field_set, parts)
        slim = await make_base_layer(BaseLayerRequest(slim_lock), **implicitly())
        layer = await make_runtime_layer(RuntimeLayerRequest(parts, slim, field_set.runtime_keep.value), **implicitly())
        names = " ".join(sorted({n for selection in parts.selections for n in selection.names}))
        stack = [
            ((slim,), base_history(slim_lock)),
            ((layer,), {"created_by": f"runtime files of {names}", "title": f"{names} (runtime)"}),
        ]
        base_lock = slim_lock
    else:
        groups = await groups_of(request, parts)
        below = (*parts.ground.layers, *(layer for one in groups for layer in one))
        state = await make_state_layer(parts, below)
        stack = [
            ((base,), base_history(base_lock)),
            ((parts.ground.opam_root,), _OPAM_ROOT_HISTORY),
            *((one, package_history(parts, one)) for one in groups),
            ((state,), _STATE_HISTORY),
        ]
    if field_set.layers.value == "flat":
        everything = tuple(layer for layers, _ in stack for layer in layers)
        created_by = "; ".join(history["created_by"] for _, history in stack)
        comment = "; ".join(history["comment"] for _, history in stack if history.get("comment"))
        flat = await pack_layer(PackedLayerRequest(base, everything, compression, level, whole=True), **implicitly())
        layers: tuple[Layer, ...] = (flat,)
        history = [{"created_by": created_by, "comment": comment}]
    else:
        as_made = (compression, level or _AS_MADE[1]) == _AS_MADE
        wanted = [
            None if as_made and len(one) == 1 else PackedLayerRequest(base, one, compression, level) for one, _ in stack
        ]
        made = iter(await concurrently(pack_layer(one, **implicitly()) for one in wanted if one is not None))
        layers = tuple(one[0] if want is None else next(made) for want, (one, _) in zip(wanted, stack))
        history = [entry for _, entry in stack]

    values: dict[str, Any] = {
        "layers": layer_paths(layers),
        "history": history,
        "architecture": _OCI_ARCHITECTURES.get(parts.plan.rootfs.architecture, parts.plan.rootfs.architecture),
        "os": "linux",
        "config": image_config(field_set),
        "annotations": dict(field_set.annotations.value or {}),
        "ref_name": "latest",
        "created": CREATED,
    }
    if field_set.sbom.value != "none" and not request.plain:
        values["sbom"] = sbom_json(
            parts, base_lock, attach=field_set.sbom.value == "attached", runtime=field_set.runtime.value
        )
    tool = await find_sandbox_tool(**implicitly())
    description = f"Write the manifest of {image}"
    outputs = ("index.json", "oci-layout", "image.json", "sbom.spdx.json", "sbom.cdx.json")
    result = await run_process(
        tool_process(
            tool,
            Call("image", description, values, layers, outputs),
            await create_digest(CreateDigest([request_file(values)])),
        )
    )
    if result.exit_code != 0:
        raise LayerError(f"{description} failed.\n{failure_text(result, '', whole_log=False)}")
    metadata = await digest_subset_to_digest(
        DigestSubset(result.output_digest, PathGlobs(["index.json", "oci-layout", "blobs/**"]))
    )
    blobs = await concurrently(
        digest_subset_to_digest(DigestSubset(layer.digest, PathGlobs(["blobs/**"]))) for layer in layers
    )
    layout = await merge_digests(MergeDigests([metadata, *blobs]))
    check_layout(await get_digest_entries(layout), layers, str(image))
    contents = await get_digest_contents(
        await digest_subset_to_digest(DigestSubset(result.output_digest, PathGlobs(["image.json", "index.json"])))
    )
    texts = {file.path: file.content for file in contents}
    summary = json.loads(texts["image.json"])
    return OciImage(
        address=image,
        layout=layout,
        index=texts["index.json"],
        manifest=summary["manifest_digest"],
        config=summary["config_digest"],
        layers=layers,
        sbom=await digest_subset_to_digest(DigestSubset(result.output_digest, SBOM_GLOBS)),
    )


def rules() -> list[object]:
    return [*collect_rules()]
