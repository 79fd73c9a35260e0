"""What lies on one another in an image: each entry becomes a layer, with a line of the image's history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.images.environment import Variables, environment_of, image_env, without_opam
from opam_oci.images.history import (
    OPAM_ROOT_HISTORY,
    STATE_HISTORY,
    base_history,
    base_image_history,
    package_history,
    runtime_history,
)
from opam_oci.images.image_texts import HistoryEntry
from opam_oci.images.layering import groups_of
from opam_oci.images.packed_layer import AS_MADE, Compression, PackedLayerRequest, pack_layer
from opam_oci.images.parts import ImageParts
from opam_oci.images.runtime_layer import RuntimeLayerRequest, make_runtime_layer, slim_base
from opam_oci.images.state_layer import make_state_layer
from opam_oci.layers.base import BaseLayerRequest, make_base_layer
from opam_oci.layers.base_image import BaseImageLayers, BaseImageRequest, make_base_image
from opam_oci.pants_engine.rules import concurrently, implicitly
from opam_oci.resolves.base_images import BaseImage
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.sandbox.layer import Layer


@dataclass(frozen=True)
class StackEntry:
    """Layers that become one. `history`: "created_by", "comment", "title" of the image's history, as far as known.

    kept: layers of others that an image has in their place, byte for byte."""

    layers: tuple[Layer, ...]
    history: HistoryEntry
    kept: tuple[Layer, ...] | None = None


@dataclass(frozen=True)
class Stack:
    """An image's entries, bottom first, and the variables that programs in it expect. `base`: what they stand on, the lock of a
    `debian_rootfs` or an image of others."""

    entries: tuple[StackEntry, ...]
    base: DebianLock | BaseImageLayers
    variables: Variables


async def base_below(field_set: OciPackageImageFieldSet, parts: ImageParts) -> DebianLock | BaseImageLayers:
    """What an image stands on. Raises InvalidFieldException, LayerError."""
    if not field_set.runtime.value:
        return parts.plan.debian_lock
    found = await slim_base(field_set, parts)
    if isinstance(found, BaseImage):
        return await make_base_image(BaseImageRequest(found, parts.ground.base), **implicitly())
    return found


async def full_stack(
    field_set: OciPackageImageFieldSet, companions: Iterable[OciPackageImageFieldSet], parts: ImageParts
) -> Stack:
    """The base, opam's root, the packages and the state. Raises TooManyLayersError, LayerError."""
    groups = await groups_of(field_set, companions, parts)
    below = (*parts.ground.layers, *(layer for one in groups for layer in one))
    state = await make_state_layer(parts, below)
    base_lock = parts.plan.debian_lock
    entries = (
        StackEntry((parts.ground.base,), base_history(base_lock)),
        StackEntry((parts.ground.opam_root,), OPAM_ROOT_HISTORY),
        *(StackEntry(one, package_history(parts, one)) for one in groups),
        StackEntry((state,), STATE_HISTORY),
    )
    return Stack(entries, base_lock, await environment_of(state))


async def runtime_stack(field_set: OciPackageImageFieldSet, parts: ImageParts) -> Stack:
    """The slim base, and what the roots need to run. Raises InvalidFieldException, LayerError."""
    base = await base_below(field_set, parts)
    if isinstance(base, BaseImageLayers):
        bottom = StackEntry((base.joined,), base_image_history(base), base.layers)
    else:
        slim = await make_base_layer(BaseLayerRequest(base), **implicitly())
        bottom = StackEntry((slim,), base_history(base))
    # As in the full image, whose programs these are.
    state = await make_state_layer(parts, (*parts.ground.layers, *parts.layers))
    variables = without_opam(await environment_of(state))
    env = tuple(image_env(field_set, variables))
    layer = await make_runtime_layer(
        RuntimeLayerRequest(parts, bottom.layers[0], state, env, field_set.runtime_keep.value, bottom.kept is not None),
        **implicitly(),
    )
    return Stack((bottom, StackEntry((layer,), runtime_history(parts))), base, variables)


async def packed(
    stack: Stack, base: Layer, compression: Compression, level: int, *, for_docker: bool = False
) -> tuple[tuple[Layer, ...], tuple[HistoryEntry, ...]]:
    """The entries as one layer each, compressed as asked for, but for layers of others, and the history of all.

    `base`'s programs compress. for_docker: other people's layers, too, are gzip: where not all are, one that has all of them is
    in their place. Raises LayerError."""
    as_made = (compression, level or AS_MADE[1]) == AS_MADE
    kept = [
        entry.kept if entry.kept is not None and not (for_docker and any(map(_is_no_gzip, entry.kept))) else None
        for entry in stack.entries
    ]
    wanted = [
        None
        if own is not None or (as_made and len(entry.layers) == 1)
        else PackedLayerRequest(base, entry.layers, compression, level)
        for own, entry in zip(kept, stack.entries)
    ]
    made = iter(await concurrently(pack_layer(one, **implicitly()) for one in wanted if one is not None))
    layers: list[Layer] = []
    history: list[HistoryEntry] = []
    for own, want, entry in zip(kept, wanted, stack.entries):
        if own is None:
            own = (entry.layers[0] if want is None else next(made),)
        layers += own
        history += [entry.history] * len(own)
    return tuple(layers), tuple(history)


def _is_no_gzip(layer: Layer) -> bool:
    return not layer.media_type.endswith("+gzip")


async def flattened(stack: Stack, base: Layer, compression: Compression, level: int) -> tuple[Layer, HistoryEntry]:
    """All entries as one layer, and its history. Raises LayerError."""
    layers = tuple(layer for entry in stack.entries for layer in entry.layers)
    flat = await pack_layer(
        PackedLayerRequest(
            base, layers, compression, level, whole=True, foreign_base=isinstance(stack.base, BaseImageLayers)
        ),
        **implicitly(),
    )
    histories = [entry.history for entry in stack.entries]
    return flat, {
        "created_by": "; ".join(history["created_by"] for history in histories),
        "comment": "; ".join(history["comment"] for history in histories if history.get("comment")),
    }
