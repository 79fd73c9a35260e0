"""Reads and writes OCI image layouts: index.json, and the image in a layout that has only one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from pants.engine.fs import Digest

from opam_oci.pants_engine.digests import file_entries, read_files
from opam_oci.sandbox.layer import blob_path, check_blobs

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
OCI_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}\n'


class LayoutError(Exception):
    """A directory that is not an image layout of the kind that is needed; the message names it."""


@dataclass(frozen=True)
class LayoutImage:
    """The one image of a layout: its descriptor in index.json, and those of what refers to it."""

    descriptor: Mapping[str, Any]
    referrers: tuple[Mapping[str, Any], ...]


def index_json(manifests: Iterable[Mapping[str, Any]]) -> bytes:
    """The text of an index.json; of entries that are there twice, one."""
    unique = {json.dumps(entry, sort_keys=True): entry for entry in manifests}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(unique.values())}
    return (json.dumps(index, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def tagged(entry: Mapping[str, Any], tag: str) -> dict[str, Any]:
    """An index's entry with another tag; referrers have none."""
    annotations = dict(entry.get("annotations", {}))
    if REF_NAME not in annotations:
        return dict(entry)
    return {**entry, "annotations": {**annotations, REF_NAME: tag}}


def image_of_index(origin: str, text: bytes) -> LayoutImage:
    """The image of an index.json. Raises LayoutError unless there is exactly one; `origin` names the layout."""
    try:
        manifests = json.loads(text)["manifests"]
        images = [one for one in manifests if one["mediaType"] == MANIFEST_TYPE and "artifactType" not in one]
        referrers = tuple(one for one in manifests if "artifactType" in one)
    except (ValueError, KeyError, TypeError) as error:
        raise LayoutError(f"{origin}: its index.json is not an OCI image index: {error!r}") from None
    if len(images) != 1:
        raise LayoutError(f"{origin}: it holds {len(images)} images, but one is needed.")
    return LayoutImage(images[0], referrers)


async def blob_json(origin: str, layout: Digest, descriptor: Mapping[str, Any]) -> Any:
    """A blob of a layout that is JSON. Raises LayoutError where it is missing."""
    path = blob_path(descriptor["digest"])
    contents = await read_files(layout, path)
    if path not in contents:
        raise LayoutError(f"{origin}: the blob {descriptor['digest']} is missing.")
    return json.loads(contents[path])


async def platform_of(origin: str, layout: Digest, image: Mapping[str, Any]) -> dict[str, str]:
    """The platform of a layout's image, all of whose blobs are checked: "architecture", "os", perhaps "variant".

    Raises LayoutError for a blob that is missing, LayerError for one that is not what its name says.
    """
    blobs = await file_entries(layout, below="blobs/")
    check_blobs(blobs.values(), origin)
    manifest = await blob_json(origin, layout, image)
    for descriptor in (manifest["config"], *manifest["layers"]):
        if blob_path(descriptor["digest"]) not in blobs:
            raise LayoutError(f"{origin}: the blob {descriptor['digest']} is missing.")
    config = await blob_json(origin, layout, manifest["config"])
    return {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}
