"""`package` for `oci_image_layout`: several images in one OCI image layout, every blob once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Iterable, Mapping

from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact, OutputPathField, PackageFieldSet
from pants.engine.addresses import Address, AddressInput
from pants.engine.fs import AddPrefix, CreateDigest, DigestSubset, FileContent, MergeDigests, PathGlobs
from pants.engine.target import InvalidFieldException
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.image import OciImageFormatField
from opam_oci.fields.image_collections import OciLayoutImagesField, OciLayoutTagsField
from opam_oci.goals.dist_paths import claim_output
from opam_oci.goals.kept_output import written_or_kept
from opam_oci.images.archive import as_archive, name_of_target, renamed, repository_name
from opam_oci.images.image import ImageRequest, OciImage, make_image
from opam_oci.images.layering import image_field_sets
from opam_oci.images.oci_layout import index_json, tagged
from opam_oci.images.stored_files import verified
from opam_oci.pants_engine.calls import (
    add_prefix,
    addresses_of,
    create_digest,
    digest_subset_to_digest,
    merge_digests,
    parse_address,
    targets_of,
)
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule


@dataclass(frozen=True)
class OciImageLayoutFieldSet(PackageFieldSet):
    required_fields = (OciLayoutImagesField, OciLayoutTagsField)

    images: OciLayoutImagesField
    tags: OciLayoutTagsField
    format: OciImageFormatField
    output_path: OutputPathField


def tags_of(layout: Address, images: Iterable[Address], given: Mapping[Address, str]) -> dict[Address, str]:
    """Each image's tag. Raises InvalidFieldException for a tag of no image, and for two images with one tag."""
    images = tuple(images)
    field = f"The `{OciLayoutTagsField.alias}` field in target {layout}"
    for address in sorted(given):
        if address not in images:
            raise InvalidFieldException(
                f"{field} names {address}, which is not in its `{OciLayoutImagesField.alias}`: "
                f"{', '.join(str(image) for image in images)}."
            )
    tags = {image: given.get(image) or name_of_target(image) for image in images}
    for image, tag in tags.items():
        same = [str(other) for other, its in tags.items() if its == tag]
        if len(same) > 1:
            raise InvalidFieldException(
                f"The images {' and '.join(same)} have the same tag {tag!r} in {layout}: set the field "
                f"`{OciLayoutTagsField.alias}`, such as `{{{str(image)!r}: {tag + '-2'!r}}}`."
            )
    return tags


async def given_tags(field_set: OciImageLayoutFieldSet) -> dict[Address, str]:
    """The field `tags`, its keys as addresses."""
    layout = field_set.address
    origin = f"the `{OciLayoutTagsField.alias}` field of {layout}"
    tags = dict(field_set.tags.value or {})
    addresses = await concurrently(
        parse_address(AddressInput.parse(text, relative_to=layout.spec_path, description_of_origin=origin))
        for text in tags
    )
    return dict(zip(addresses, tags.values()))


async def images_of_layout(field_set: OciImageLayoutFieldSet) -> tuple[OciPackageImageFieldSet, ...]:
    """The images that a layout names, by address. Raises InvalidFieldException for other targets, and where it names none."""
    layout = field_set.address
    field_sets = image_field_sets(
        f"the `{OciLayoutImagesField.alias}` field in target {layout}",
        await targets_of(await addresses_of(field_set.images.to_unparsed_address_inputs())),
    )
    if not field_sets:
        raise InvalidFieldException(f"The `{OciLayoutImagesField.alias}` field in target {layout} is empty.")
    return field_sets


def image_requests(field_sets: tuple[OciPackageImageFieldSet, ...], format: str) -> list[ImageRequest]:
    """How the images of a layout of that format are asked for."""
    return [
        ImageRequest(
            one,
            # An image that says with whom it shares is the same here as by itself.
            companions=() if one.shared_with.value else field_sets,
            for_docker=format == "docker-archive",
        )
        for one in field_sets
    ]


@rule(desc="Package OCI images as one layout", level=LogLevel.DEBUG)
async def package_layout(field_set: OciImageLayoutFieldSet) -> BuiltPackage:
    """Several images with the blobs of all, each once, and one index.json."""
    layout = field_set.address
    field_sets = await images_of_layout(field_set)
    tags = tags_of(layout, [one.address for one in field_sets], await given_tags(field_set))
    kind = field_set.format.value
    path = field_set.output_path.value_or_default(file_ending=None if kind == "oci" else "tar")
    await claim_output(layout, path)
    images = await concurrently(make_image(one, **implicitly()) for one in image_requests(field_sets, kind))
    blobs = await concurrently(
        digest_subset_to_digest(DigestSubset(image.layout, PathGlobs(["oci-layout", "blobs/**"]))) for image in images
    )
    index = index_json(
        tagged(entry, tags[image.address]) for image in images for entry in json.loads(image.index)["manifests"]
    )
    digest = await merge_digests(
        MergeDigests([*blobs, await create_digest(CreateDigest([FileContent("index.json", index)]))])
    )
    lines = log_lines(images, tags)
    artifacts = (BuiltPackageArtifact(path, lines),)
    if kind == "oci":
        return await written_or_kept(await add_prefix(AddPrefix(digest, path)), artifacts, f"layout {layout}")
    await verified(digest, f"layout {layout}")
    archive = await as_archive(
        kind,
        f"Write {layout} as {kind}",
        digest,
        {f"{repository_name(layout)}:{tags[image.address]}": image for image in images},
    )
    return await written_or_kept(await renamed(archive, path, {"image.tar": ""}), artifacts, f"archive {layout}")


def log_lines(images: Iterable[OciImage], tags: Mapping[Address, str]) -> tuple[str, ...]:
    """What `package` prints below the path: each image, and what sharing saves."""
    images = tuple(images)
    lines = [f"{tags[image.address]}: manifest {image.manifest}" for image in images]
    sizes = {layer.blob: layer.size for image in images for layer in image.layers}
    alone = sum(layer.size for image in images for layer in image.layers)
    lines.append(
        f"{pluralize(len(images), 'image')}, {pluralize(len(sizes), 'layer')}, {sum(sizes.values()):,} bytes compressed "
        f"({alone:,} without sharing)"
    )
    return tuple(lines)


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(PackageFieldSet, OciImageLayoutFieldSet)]
