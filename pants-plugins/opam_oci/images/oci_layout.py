"""Reads and writes the index.json of OCI image layouts."""

from __future__ import annotations

import json
from typing import Any, Iterable, Mapping

from pants.engine.fs import Digest, DigestSubset, PathGlobs

from opam_oci.pants_engine.calls import digest_subset_to_digest, get_digest_contents
from opam_oci.sandbox.layer import blob_path

REF_NAME = "org.opencontainers.image.ref.name"


def index_json(manifests: Iterable[Mapping[str, Any]]) -> bytes:
    """The text of an index.json; of entries that are there twice, one."""
    unique = {json.dumps(entry, sort_keys=True): entry for entry in manifests}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": list(unique.values()),
    }
    return (json.dumps(index, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def tagged(entry: Mapping[str, Any], tag: str) -> dict[str, Any]:
    """An index's entry with another tag; referrers have none."""
    annotations = dict(entry.get("annotations", {}))
    if REF_NAME not in annotations:
        return dict(entry)
    return {**entry, "annotations": {**annotations, REF_NAME: tag}}


_INDEX = "application/vnd.oci.image.index.v1+json"

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class LayoutError(Exception):
    """A directory that is no image layout of the kind that an index is made of; the message names it."""


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


async def blob_json(origin: str, layout: Digest, descriptor: Mapping[str, Any]) -> Any:
    contents = await get_digest_contents(
        await digest_subset_to_digest(DigestSubset(layout, PathGlobs([blob_path(descriptor["digest"])])))
    )
    if not contents:
        raise LayoutError(f"{origin}: the blob {descriptor['digest']} is missing.")
    return json.loads(contents[0].content)
