"""The OCI image layout among what a target was packaged as."""

from __future__ import annotations

from dataclasses import dataclass

from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.engine.fs import Digest, DigestSubset, PathGlobs, RemovePrefix

from opam_oci.images.oci_layout import image_of_index
from opam_oci.pants_engine.calls import digest_subset_to_digest, remove_prefix
from opam_oci.pants_engine.digests import read_files
from opam_oci.pants_engine.rules import collect_rules, rule


@dataclass(frozen=True)
class ImageLayoutRequest:
    """The OCI image layout among what an image was packaged as."""

    address: Address
    packages: tuple[BuiltPackage, ...]


@dataclass(frozen=True)
class ImageLayout:
    """A layout of one image: its manifest's digest ("sha256:...") and its files, index.json at the top."""

    manifest_digest: str
    digest: Digest


class NoLayoutError(Exception):
    """A package is not an OCI image layout."""


@rule
async def find_image_layout(request: ImageLayoutRequest) -> ImageLayout:
    """The layout of one image among packages. Raises NoLayoutError."""
    for built in request.packages:
        for artifact in built.artifacts:
            if artifact.relpath is None:
                continue
            path = f"{artifact.relpath}/index.json"
            index = await read_files(built.digest, path)
            if path not in index:
                continue
            image = image_of_index(str(request.address), index[path])
            layout = await digest_subset_to_digest(DigestSubset(built.digest, PathGlobs([f"{artifact.relpath}/**"])))
            return ImageLayout(image.descriptor["digest"], await remove_prefix(RemovePrefix(layout, artifact.relpath)))
    raise NoLayoutError(
        f"{request.address} was not packaged as an OCI image layout of one image, which publishing and running it need."
    )


def rules() -> list[object]:
    return [*collect_rules()]
