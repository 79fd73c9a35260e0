"""`package` for `oci_image_index`: one image index over the images of several platforms."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact, OutputPathField, PackageFieldSet
from pants.engine.fs import (
    AddPrefix,
    CreateDigest,
    Digest,
    DigestSubset,
    FileContent,
    FileEntry,
    MergeDigests,
    PathGlobs,
    RemovePrefix,
    Snapshot,
)
from pants.engine.target import InvalidFieldException
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.engine import (
    add_prefix,
    addresses_of,
    collect_rules,
    concurrently,
    create_digest,
    digest_contents,
    digest_entries,
    digest_subset,
    merge_digests,
    oci_image,
    remove_prefix,
    rule,
    snapshot_of_globs,
    targets_of,
)
from opam_oci.image import image_field_sets
from opam_oci.image_layout import REF_NAME, index_json
from opam_oci.image_products import ImageRequest, OciImage
from opam_oci.layers import blob_path, check_blobs
from opam_oci.target_types import OciIndexImagesField, OciIndexLayoutsField, OciIndexTagField

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class LayoutError(Exception):
    """A directory that is no image layout of the kind that an index is made of; the message names it."""


@dataclass(frozen=True)
class OciImageIndexFieldSet(PackageFieldSet):
    required_fields = (OciIndexImagesField, OciIndexLayoutsField)

    images: OciIndexImagesField
    layouts: OciIndexLayoutsField
    tag: OciIndexTagField
    output_path: OutputPathField


@dataclass(frozen=True)
class _Part:
    """A layout with one image: the image's descriptor and those of what refers to it."""

    origin: str
    digest: Digest
    image: Mapping[str, Any]
    referrers: tuple[Mapping[str, Any], ...]


def read_index(origin: str, text: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The image of an index.json and its referrers. Raises LayoutError unless there is exactly one image."""
    try:
        manifests = json.loads(text)["manifests"]
        images = [one for one in manifests if one["mediaType"] == _MANIFEST and "artifactType" not in one]
        referrers = [one for one in manifests if "artifactType" in one]
    except (ValueError, KeyError, TypeError) as error:
        raise LayoutError(f"{origin}: its index.json is no OCI image index: {error!r}") from None
    if len(images) != 1:
        raise LayoutError(f"{origin}: it holds {len(images)} images, where an index takes one of each platform.")
    return images[0], referrers


def check_platforms(target: object, parts: Iterable[_Part]) -> None:
    """Raise LayoutError where two images are for one platform."""
    seen: dict[str, str] = {}
    for part in parts:
        platform = platform_text(part.image["platform"])
        if platform in seen:
            raise LayoutError(
                f"The index {target} has two images for {platform}, {seen[platform]} and {part.origin}: an engine would "
                "take the first only."
            )
        seen[platform] = part.origin


def platform_text(platform: Mapping[str, Any]) -> str:
    return "/".join(str(platform[key]) for key in ("os", "architecture", "variant") if platform.get(key))


async def blob_json(origin: str, layout: Digest, descriptor: Mapping[str, Any]) -> Any:
    contents = await digest_contents(
        await digest_subset(DigestSubset(layout, PathGlobs([blob_path(descriptor["digest"])])))
    )
    if not contents:
        raise LayoutError(f"{origin}: the blob {descriptor['digest']} is missing.")
    return json.loads(contents[0].content)


async def read_part(origin: str, layout: Digest, index: bytes) -> _Part:
    """A layout, checked: every blob that its image names is there, and is what its name says."""
    image, referrers = read_index(origin, index)
    blobs = {
        entry.path: entry
        for entry in await digest_entries(layout)
        if isinstance(entry, FileEntry) and entry.path.startswith("blobs/")
    }
    check_blobs(blobs.values(), origin)
    manifest = await blob_json(origin, layout, image)
    for descriptor in (manifest["config"], *manifest["layers"]):
        if blob_path(descriptor["digest"]) not in blobs:
            raise LayoutError(f"{origin}: the blob {descriptor['digest']} is missing.")
    config = await blob_json(origin, layout, manifest["config"])
    platform = {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}
    descriptor = {
        "mediaType": _MANIFEST,
        "digest": image["digest"],
        "size": image["size"],
        "platform": platform,
    }
    return _Part(origin, layout, descriptor, tuple(referrers))


@rule(desc="Package OCI images as one index", level=LogLevel.DEBUG)
async def package_index(field_set: OciImageIndexFieldSet) -> BuiltPackage:
    target = field_set.address
    field_sets = image_field_sets(
        f"the `{OciIndexImagesField.alias}` field in target {target}",
        await targets_of(await addresses_of(field_set.images.to_unparsed_address_inputs())),
    )
    images: tuple[OciImage, ...] = await concurrently(oci_image(ImageRequest(one)) for one in field_sets)
    parts = []
    for image in images:
        parts.append(await read_part(str(image.address), image.layout, image.index))
    for path in field_set.layouts.value:
        path = path.strip("/")
        origin = f"The layout {path} of {target}"
        snapshot: Snapshot = await snapshot_of_globs(
            PathGlobs([f"{path}/oci-layout", f"{path}/index.json", f"{path}/blobs/**"])
        )
        if f"{path}/index.json" not in snapshot.files:
            raise LayoutError(
                f"{origin}: there is no {path}/index.json in the build root, or `[GLOBAL].pants_ignore` hides it."
            )
        layout = await remove_prefix(RemovePrefix(snapshot.digest, path))
        contents = await digest_contents(await digest_subset(DigestSubset(layout, PathGlobs(["index.json"]))))
        parts.append(await read_part(origin, layout, contents[0].content))
    if not parts:
        raise InvalidFieldException(
            f"The target {target} has neither `{OciIndexImagesField.alias}` nor `{OciIndexLayoutsField.alias}`."
        )
    check_platforms(target, parts)
    parts.sort(key=lambda part: platform_text(part.image["platform"]))
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [part.image for part in parts]}
    content = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    entry = {
        "mediaType": _INDEX,
        "digest": digest,
        "size": len(content),
        "annotations": {REF_NAME: field_set.tag.value},
    }
    top = index_json([entry, *(referrer for part in parts for referrer in part.referrers)])
    blobs = await concurrently(digest_subset(DigestSubset(part.digest, PathGlobs(["blobs/**"]))) for part in parts)
    written = await create_digest(
        CreateDigest(
            [
                FileContent("index.json", top),
                FileContent("oci-layout", b'{"imageLayoutVersion": "1.0.0"}\n'),
                FileContent(blob_path(digest), content),
            ]
        )
    )
    path = field_set.output_path.value_or_default(file_ending=None)
    layout = await add_prefix(AddPrefix(await merge_digests(MergeDigests([*blobs, written])), path))
    platforms = ", ".join(platform_text(part.image["platform"]) for part in parts)
    return BuiltPackage(layout, (BuiltPackageArtifact(path, (f"index {digest}", f"platforms: {platforms}")),))


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(PackageFieldSet, OciImageIndexFieldSet)]
