"""Writes a layout as one file."""

from __future__ import annotations

import re
from typing import Mapping

from pants.engine.addresses import Address
from pants.engine.fs import AddPrefix, CreateDigest, Digest, DigestSubset, FileEntry, MergeDigests, PathGlobs

from opam_oci.images.image import OciImage
from opam_oci.pants_engine.calls import (
    add_prefix,
    create_digest,
    digest_subset_to_digest,
    get_digest_entries,
    merge_digests,
    run_process,
)
from opam_oci.pants_engine.rules import implicitly
from opam_oci.sandbox.layer import Layer, LayerError, blob_path, failure_text
from opam_oci.sandbox.process import Call, request_file, tool_process
from opam_oci.sandbox.tool import find_sandbox_tool


def repository_name(address: Address) -> str:
    """The name that an archive for docker gives to an image: the target's, in the letters that docker takes."""
    return re.sub(r"[^a-z0-9]+", "-", address.target_name.lower()).strip("-") or "image"


async def renamed(digest: Digest, path: str, suffixes: Mapping[str, str]) -> Digest:
    """The files of a digest that `suffixes` names, at `path` + their suffixes."""
    entries = await get_digest_entries(digest)
    files = [
        FileEntry(path + suffixes[entry.path], entry.file_digest)
        for entry in entries
        if isinstance(entry, FileEntry) and entry.path in suffixes
    ]
    result = await create_digest(CreateDigest(files))
    return result


async def as_archive(kind: str, description: str, layout: Digest, images: Mapping[str, OciImage]) -> Digest:
    """A layout as one file, `image.tar`. `images`: those of a docker-archive by their names and tags."""
    tool = await find_sandbox_tool(**implicitly())
    layers: list[Layer] = []
    listed = []
    for tag, image in images.items() if kind == "docker-archive" else ():
        paths = [f"in/{len(layers) + number}" for number, _ in enumerate(image.layers)]
        layers.extend(image.layers)
        listed.append({"config": image.config, "tags": [tag], "layers": paths})
    values = {"format": kind, "layout": "layout", "images": listed}
    if kind == "docker-archive":
        layout = await digest_subset_to_digest(
            DigestSubset(layout, PathGlobs([blob_path(image.config) for image in images.values()]))
        )
    inputs = await merge_digests(
        MergeDigests(
            [await create_digest(CreateDigest([request_file(values)])), await add_prefix(AddPrefix(layout, "layout"))]
        )
    )
    call = Call("archive", description, values, tuple(layers), ("image.tar",), ())
    result = await run_process(tool_process(tool, call, inputs))
    if result.exit_code != 0:
        raise LayerError(f"{description} failed.\n{failure_text(result, '', whole_log=False)}")
    archive: Digest = result.output_digest
    return archive
