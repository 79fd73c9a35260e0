"""Reads and writes OCI image layouts: index.json, and the image in a layout that has only one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from pants.engine.fs import Digest

from opam_oci.pants_engine.digests import file_entries, read_files
from opam_oci.sandbox.foreign_json import checked_digest, parse_object
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
    where = f"{origin}: index.json"
    manifests = descriptors(parse_object(text, where, LayoutError), "manifests", where)
    images = [one for one in manifests if one["mediaType"] == MANIFEST_TYPE and "artifactType" not in one]
    referrers = tuple(one for one in manifests if "artifactType" in one)
    if len(images) != 1:
        raise LayoutError(f"{origin}: it holds {len(images)} images, but one is needed.")
    return LayoutImage(images[0], referrers)


def check_descriptor(value: object, where: str) -> Mapping[str, Any]:
    """The value if it is a descriptor. Raises LayoutError otherwise; `where` names file and field."""
    if not isinstance(value, dict):
        raise LayoutError(f"{where} should be a descriptor, but is {value!r:.80}.")
    checked_digest(value.get("digest"), f"{where}: its `digest`", LayoutError)
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise LayoutError(f"{where}: its `size` should be a number of bytes, but is {size!r:.80}.")
    if not isinstance(value.get("mediaType"), str):
        raise LayoutError(f"{where}: its `mediaType` should be a string, but is {value.get('mediaType')!r:.80}.")
    if not isinstance(value.get("annotations", {}), dict):
        raise LayoutError(f"{where}: its `annotations` should be an object, but are {value['annotations']!r:.80}.")
    return value


def descriptors(values: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    """The list of descriptors that a JSON object has at `key`. Raises LayoutError."""
    found = values.get(key)
    if not isinstance(found, list):
        raise LayoutError(f"{where}: it should have a list `{key}`.")
    return [check_descriptor(one, f"{where}: {key}[{number}]") for number, one in enumerate(found)]


async def blob_json(origin: str, layout: Digest, descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object in a blob of a layout. Raises LayoutError where it is missing."""
    path = blob_path(descriptor["digest"])
    contents = await read_files(layout, path)
    if path not in contents:
        raise LayoutError(f"{origin}: the blob {descriptor['digest']} is missing.")
    return parse_object(contents[path], f"{origin}: the blob {descriptor['digest']}", LayoutError)


async def platform_of(origin: str, layout: Digest, image: Mapping[str, Any]) -> dict[str, str]:
    """The platform of a layout's image, all of whose blobs are checked: "architecture", "os", perhaps "variant".

    Raises LayoutError for a blob that is missing, LayerError for one that is not what its name says.
    """
    blobs = await file_entries(layout, below="blobs/")
    check_blobs(blobs.values(), origin)
    manifest = await blob_json(origin, layout, image)
    where = f"{origin}: the manifest {image['digest']}"
    described = check_descriptor(manifest.get("config"), f"{where}: `config`")
    for descriptor in (image, described, *descriptors(manifest, "layers", where)):
        blob = blobs.get(blob_path(descriptor["digest"]))
        if blob is None:
            raise LayoutError(f"{origin}: the blob {descriptor['digest']} is missing.")
        if blob.file_digest.serialized_bytes_length != descriptor["size"]:
            raise LayoutError(
                f"{origin}: the blob {descriptor['digest']} has {blob.file_digest.serialized_bytes_length} bytes, but "
                f"should have {descriptor['size']}."
            )
    config = await blob_json(origin, layout, described)
    platform = {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}
    for key in ("architecture", "os"):
        if key not in platform:
            raise LayoutError(f"{origin}: its configuration {described['digest']} has no `{key}`.")
    for key, value in platform.items():
        if not isinstance(value, str):
            raise LayoutError(f"{origin}: the `{key}` of its configuration is {value!r:.80}.")
    return platform
