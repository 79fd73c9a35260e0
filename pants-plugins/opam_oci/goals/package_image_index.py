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
)
from pants.engine.target import InvalidFieldException
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.fields.image_collections import OciIndexImagesField, OciIndexLayoutsField, OciIndexTagField
from opam_oci.images.image import ImageRequest, make_image
from opam_oci.images.layering import image_field_sets
from opam_oci.images.oci_layout import _INDEX, _MANIFEST, REF_NAME, LayoutError, blob_json, index_json, read_index
from opam_oci.pants_engine.calls import (
    add_prefix,
    addresses_of,
    create_digest,
    digest_subset_to_digest,
    get_digest_contents,
    get_digest_entries,
    merge_digests,
    remove_prefix,
    snapshot_of_globs,
    targets_of,
)
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.sandbox.layer import blob_path, check_blobs


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


async def read_part(origin: str, layout: Digest, index: bytes) -> _Part:
    """A layout, checked: every blob that its image names is there, and is what its name says."""
    image, referrers = read_index(origin, index)
    blobs = {
        entry.path: entry
        for entry in await get_digest_entries(layout)
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
    images = await concurrently(make_image(ImageRequest(one), **implicitly()) for one in field_sets)
    parts = []
    for image in images:
        parts.append(await read_part(str(image.address), image.layout, image.index))
    for path in field_set.layouts.value:
        path = path.strip("/")
        origin = f"The layout {path} of {target}"
        snapshot = await snapshot_of_globs(PathGlobs([f"{path}/oci-layout", f"{path}/index.json", f"{path}/blobs/**"]))
        if f"{path}/index.json" not in snapshot.files:
            raise LayoutError(
                f"{origin}: there is no {path}/index.json in the build root, or `[GLOBAL].pants_ignore` hides it."
            )
        layout = await remove_prefix(RemovePrefix(snapshot.digest, path))
        contents = await get_digest_contents(
            await digest_subset_to_digest(DigestSubset(layout, PathGlobs(["index.json"])))
        )
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
    blobs = await concurrently(
        digest_subset_to_digest(DigestSubset(part.digest, PathGlobs(["blobs/**"]))) for part in parts
    )
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
