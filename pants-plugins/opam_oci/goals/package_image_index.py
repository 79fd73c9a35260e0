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
    MergeDigests,
    PathGlobs,
    RemovePrefix,
)
from pants.engine.target import InvalidFieldException
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.fields.image_collections import OciIndexImagesField, OciIndexLayoutsField, OciIndexTagField
from opam_oci.goals.dist_paths import claim_output
from opam_oci.goals.kept_output import written_or_kept
from opam_oci.images.image import ImageRequest, make_image
from opam_oci.images.layering import image_field_sets
from opam_oci.images.oci_layout import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    OCI_LAYOUT,
    REF_NAME,
    LayoutError,
    image_of_index,
    index_json,
    platform_of,
)
from opam_oci.pants_engine.calls import (
    add_prefix,
    addresses_of,
    create_digest,
    digest_subset_to_digest,
    merge_digests,
    remove_prefix,
    snapshot_of_globs,
    targets_of,
)
from opam_oci.pants_engine.digests import read_files
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.sandbox.layer import blob_path


@dataclass(frozen=True)
class OciImageIndexFieldSet(PackageFieldSet):
    required_fields = (OciIndexImagesField, OciIndexLayoutsField)

    images: OciIndexImagesField
    layouts: OciIndexLayoutsField
    tag: OciIndexTagField
    output_path: OutputPathField


@dataclass(frozen=True)
class IndexPart:
    """A layout with one image: the image's descriptor, with its platform, and those of what refers to it.

    origin: for messages. name: the image's address, or the directory of its layout."""

    origin: str
    digest: Digest
    image: Mapping[str, Any]
    referrers: tuple[Mapping[str, Any], ...]
    name: str

    @property
    def platform(self) -> str:
        """As in "linux/arm/v7"."""
        platform = self.image["platform"]
        return "/".join(str(platform[key]) for key in ("os", "architecture", "variant") if platform.get(key))


def check_platforms(target: object, parts: Iterable[IndexPart]) -> None:
    """Raise LayoutError where two images are for one platform."""
    seen: dict[str, str] = {}
    for part in parts:
        if part.platform in seen:
            raise LayoutError(
                f"The index {target} has two images for {part.platform}, {seen[part.platform]} and {part.origin}: an "
                "engine would take the first only."
            )
        seen[part.platform] = part.origin


async def read_part(origin: str, layout: Digest, index: bytes, name: str) -> IndexPart:
    """A layout, checked: every blob that its image names is there, and is what its name says. Raises LayoutError."""
    image = image_of_index(origin, index)
    descriptor = {
        "mediaType": MANIFEST_TYPE,
        "digest": image.descriptor["digest"],
        "size": image.descriptor["size"],
        "platform": await platform_of(origin, layout, image.descriptor),
    }
    return IndexPart(origin, layout, descriptor, image.referrers, name)


async def read_prebuilt(target: object, path: str) -> IndexPart:
    """A layout in the build root. Raises LayoutError where it is not one."""
    origin = f"The layout {path} of {target}"
    snapshot = await snapshot_of_globs(PathGlobs([f"{path}/oci-layout", f"{path}/index.json", f"{path}/blobs/**"]))
    if f"{path}/index.json" not in snapshot.files:
        raise LayoutError(
            f"{origin}: there is no {path}/index.json in the build root, or `[GLOBAL].pants_ignore` hides it."
        )
    layout = await remove_prefix(RemovePrefix(snapshot.digest, path))
    contents = await read_files(layout, "index.json")
    return await read_part(origin, layout, contents["index.json"], path)


def index_files(parts: Iterable[IndexPart], tag: str) -> tuple[str, list[FileContent]]:
    """The digest of the index over the parts' images, and the files that a layout with it has beside their blobs."""
    parts = tuple(parts)
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [part.image for part in parts]}
    content = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    entry = {"mediaType": INDEX_TYPE, "digest": digest, "size": len(content), "annotations": {REF_NAME: tag}}
    top = index_json([entry, *(referrer for part in parts for referrer in part.referrers)])
    return digest, [
        FileContent("index.json", top),
        FileContent("oci-layout", OCI_LAYOUT),
        FileContent(blob_path(digest), content),
    ]


async def parts_of_index(field_set: OciImageIndexFieldSet) -> list[IndexPart]:
    """The images of an index, those that are made here first. Raises InvalidFieldException where it names none."""
    target = field_set.address
    field_sets = image_field_sets(
        f"the `{OciIndexImagesField.alias}` field in target {target}",
        await targets_of(await addresses_of(field_set.images.to_unparsed_address_inputs())),
    )
    images = await concurrently(make_image(ImageRequest(one), **implicitly()) for one in field_sets)
    parts = [await read_part(str(image.address), image.layout, image.index, str(image.address)) for image in images]
    parts += [await read_prebuilt(target, path.strip("/")) for path in field_set.layouts.value]
    if not parts:
        raise InvalidFieldException(
            f"The target {target} has neither `{OciIndexImagesField.alias}` nor `{OciIndexLayoutsField.alias}`."
        )
    return parts


@rule(desc="Package OCI images as one index", level=LogLevel.DEBUG)
async def package_index(field_set: OciImageIndexFieldSet) -> BuiltPackage:
    """An index over images that are made here and images that were made elsewhere. Raises LayoutError."""
    target = field_set.address
    path = field_set.output_path.value_or_default(file_ending=None)
    await claim_output(target, path)
    parts = await parts_of_index(field_set)
    check_platforms(target, parts)
    parts.sort(key=lambda part: part.platform)
    digest, files = index_files(parts, field_set.tag.value)
    blobs = await concurrently(
        digest_subset_to_digest(DigestSubset(part.digest, PathGlobs(["blobs/**"]))) for part in parts
    )
    written = await create_digest(CreateDigest(files))
    layout = await add_prefix(AddPrefix(await merge_digests(MergeDigests([*blobs, written])), path))
    platforms = ", ".join(part.platform for part in parts)
    artifacts = (BuiltPackageArtifact(path, (f"index {digest}", f"platforms: {platforms}")),)
    return await written_or_kept(layout, artifacts, f"index {target}")


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(PackageFieldSet, OciImageIndexFieldSet)]
