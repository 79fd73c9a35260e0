"""The OCI image layout among what a target was packaged as."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.engine.fs import Digest, DigestSubset, PathGlobs, RemovePrefix

from opam_oci.pants_engine.calls import digest_subset_to_digest, get_digest_contents, remove_prefix
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
    """A package is no OCI image layout."""


@rule
async def find_image_layout(request: ImageLayoutRequest) -> ImageLayout:
    for built in request.packages:
        for artifact in built.artifacts:
            if artifact.relpath is None:
                continue
            index = await get_digest_contents(
                await digest_subset_to_digest(DigestSubset(built.digest, PathGlobs([f"{artifact.relpath}/index.json"])))
            )
            if index:
                entries = json.loads(index[0].content)["manifests"]
                # What has no name is about an image, or there is one image only.
                named = [e for e in entries if "org.opencontainers.image.ref.name" in e.get("annotations", {})]
                digests = {entry["digest"] for entry in named or entries}
                if len(digests) == 1:
                    layout = await digest_subset_to_digest(
                        DigestSubset(built.digest, PathGlobs([f"{artifact.relpath}/**"]))
                    )
                    return ImageLayout(digests.pop(), await remove_prefix(RemovePrefix(layout, artifact.relpath)))
    raise NoLayoutError(
        f"{request.address} was not packaged as an OCI image layout of one image, which publishing and running it need."
    )


def rules() -> list[object]:
    return [*collect_rules()]
