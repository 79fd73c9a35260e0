"""Writes a layout as one file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Mapping, cast

from pants.engine.addresses import Address
from pants.engine.fs import AddPrefix, CreateDigest, Digest, DigestSubset, FileEntry, PathGlobs

from opam_oci.images.image import OciImage
from opam_oci.pants_engine.calls import (
    add_prefix,
    create_digest,
    digest_subset_to_digest,
)
from opam_oci.pants_engine.digests import file_entries
from opam_oci.sandbox.layer import Layer, blob_path
from opam_oci.sandbox.process import Call
from opam_oci.sandbox.run_tool import run_tool

if TYPE_CHECKING:
    from opam_sandbox.imaging.requests import ArchivedImage, ArchiveRequest

ArchiveFormat = Literal["oci-archive", "docker-archive"]


def name_of_target(address: Address) -> str:
    """A target's name, for one that `parametrize` made with its parameters: "name-compression-gzip"."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"{address.target_name}{address.parameters_repr}")


def repository_name(address: Address) -> str:
    """The name that an archive for docker gives to an image: the target's, in the letters that docker takes."""
    return re.sub(r"[^a-z0-9]+", "-", name_of_target(address).lower()).strip("-") or "image"


async def renamed(digest: Digest, path: str, suffixes: Mapping[str, str]) -> Digest:
    """The files of a digest that `suffixes` names, at `path` + their suffixes."""
    files = [
        FileEntry(path + suffixes[name], entry.file_digest)
        for name, entry in (await file_entries(digest)).items()
        if name in suffixes
    ]
    return await create_digest(CreateDigest(files))


async def as_archive(kind: str, description: str, layout: Digest, images: Mapping[str, OciImage]) -> Digest:
    """A layout as one file, `image.tar`. `images`: those of a docker-archive by their names and tags. Raises LayerError."""
    layers: list[Layer] = []
    listed: list[ArchivedImage] = []
    for tag, image in images.items() if kind == "docker-archive" else ():
        paths = [f"in/{len(layers) + number}" for number, _ in enumerate(image.layers)]
        layers.extend(image.layers)
        listed.append({"config": image.config, "tags": [tag], "layers": paths})
    values: ArchiveRequest = {"format": cast(ArchiveFormat, kind), "layout": "layout", "images": listed}
    if kind == "docker-archive":
        layout = await digest_subset_to_digest(
            DigestSubset(layout, PathGlobs([blob_path(image.config) for image in images.values()]))
        )
    call = Call("archive", description, values, tuple(layers), ("image.tar",), ())
    result = await run_tool(call, [await add_prefix(AddPrefix(layout, "layout"))])
    return result.output_digest
