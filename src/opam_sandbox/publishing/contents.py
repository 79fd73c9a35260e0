"""What an image consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Sequence

from opam_sandbox.oci import layout as oci
from opam_sandbox.oci.layout import Descriptor


@dataclass(frozen=True)
class Contents:
    """`blobs` and `about` by digest: what the image is made of, and what its referrers alone are; all but the manifests."""

    image: Descriptor
    blobs: Dict[str, Descriptor]
    referrers: Sequence[Descriptor]
    about: Dict[str, Descriptor]


def contents(layout: Path) -> Contents:
    """Of the one image in a layout, whose JSON must be there. Raises ToolError."""
    image, referrers = oci.image_and_referrers(layout)
    blobs = _blobs(layout, image)
    about = {digest: one for referrer in referrers for digest, one in _blobs(layout, referrer).items()}
    return Contents(image, blobs, referrers, {digest: one for digest, one in about.items() if digest not in blobs})


def _blobs(layout: Path, manifest: Descriptor) -> Dict[str, Descriptor]:
    found = oci.closure(layout, [manifest])
    return {digest: one for digest, one in sorted(found.items()) if not oci.is_manifest(one)}
