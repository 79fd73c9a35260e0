"""Which packages of an image become a layer together."""

from __future__ import annotations

from typing import Iterable, Protocol

from pants.engine.addresses import Address, Addresses, AddressInput
from pants.engine.target import InvalidFieldException, Target

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.image import OciImageMaxLayersField, OciImageSharedWithField
from opam_oci.images.grouping import Unit, group
from opam_oci.images.parts import ImageParts, ImagePartsRequest, build_image_parts
from opam_oci.pants_engine.calls import parse_address, targets_of
from opam_oci.pants_engine.rules import concurrently, implicitly
from opam_oci.sandbox.layer import Layer
from opam_oci.target_types import OciPackageImageTarget

# The base, opam's root and the state: no packages.
OTHER_LAYERS = 3


class TooManyLayersError(Exception):
    """An image with `layers="per_package"` that has more layers than it may."""


def units_of(parts: ImageParts) -> tuple[Unit, ...]:
    """An image's packages as `grouping` wants them, dependencies first."""
    keys = {union.package.name: layer.diff_id for union, layer in zip(parts.packages, parts.layers)}
    return tuple(
        Unit(
            layer.diff_id,
            union.package.name,
            tuple(keys[name] for name in union.package.depends if name in keys),
        )
        for union, layer in zip(parts.packages, parts.layers)
    )


def image_field_sets(origin: str, targets: Iterable[Target]) -> tuple[OciPackageImageFieldSet, ...]:
    """Field sets of images, by address. Raises InvalidFieldException for targets that are none."""
    field_sets = []
    for target in targets:
        if not OciPackageImageFieldSet.is_applicable(target):
            raise InvalidFieldException(
                f"{origin[:1].upper()}{origin[1:]} names {target.address}, which is a `{target.alias}`; it takes "
                f"`{OciPackageImageTarget.alias}` targets."
            )
        field_sets.append(OciPackageImageFieldSet.create(target))
    return tuple(sorted(field_sets, key=lambda one: one.address))


class SharesLayers(Protocol):
    """A field set with what names the images that an image shares layers with."""

    @property
    def address(self) -> Address: ...

    @property
    def shared_with(self) -> OciImageSharedWithField: ...


async def shared_with(field_set: SharesLayers) -> tuple[OciPackageImageFieldSet, ...]:
    """The images that the field `shared_with` names. Raises InvalidFieldException for other targets."""
    origin = f"the `{OciImageSharedWithField.alias}` field of {field_set.address}"
    addresses = await concurrently(
        parse_address(AddressInput.parse(text, relative_to=field_set.address.spec_path, description_of_origin=origin))
        for text in field_set.shared_with.value
    )
    return image_field_sets(origin, await targets_of(Addresses(addresses)))


def check_layer_count(field_set: OciPackageImageFieldSet, packages: int) -> None:
    """Raise TooManyLayersError where each package is to be a layer and the image may not have so many."""
    count = packages + OTHER_LAYERS
    if count > field_set.max_layers.value:
        raise TooManyLayersError(
            f"The image {field_set.address} has {count} layers, one for each package, but its "
            f"`{OciImageMaxLayersField.alias}` is {field_set.max_layers.value}. Set its `{field_set.layers.alias}` to "
            f'"grouped" to join packages, or raise `{OciImageMaxLayersField.alias}`.'
        )


async def groups_of(
    field_set: OciPackageImageFieldSet, companions: Iterable[OciPackageImageFieldSet], parts: ImageParts
) -> tuple[tuple[Layer, ...], ...]:
    """The image's packages as groups that are to be a layer each, bottom first.

    `companions`: images that it is to share layers with, beside those that its field names. Raises TooManyLayersError.
    """
    alone = tuple((layer,) for layer in parts.layers)
    if field_set.layers.value == "flat":
        return alone
    if field_set.layers.value == "per_package":
        check_layer_count(field_set, len(alone))
        return alone
    field_sets = {one.address: one for one in (*companions, *await shared_with(field_set))}
    field_sets.pop(field_set.address, None)
    others = await concurrently(
        build_image_parts(ImagePartsRequest(one), **implicitly())
        for one in field_sets.values()
        if one.layers.value == "grouped"
    )
    field_sets[field_set.address] = field_set
    groups = group(
        {str(one.address): units_of(one) for one in (parts, *others)},
        {str(one.address): field_sets[one.address].max_layers.value - OTHER_LAYERS for one in (parts, *others)},
    )[str(field_set.address)]
    by_key = {layer.diff_id: layer for layer in parts.layers}
    return tuple(tuple(by_key[key] for key in one) for one in groups)
