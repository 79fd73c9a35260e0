"""Images as reports know them, made up."""

from __future__ import annotations

import hashlib
from typing import Tuple

from opam_oci.image_reports.records import ImageRecord, LayerKind, LayerRecord


def layer(
    number: int, size: int, title: str = "x", packages: Tuple[str, ...] = (), kind: str = "packages"
) -> LayerRecord:
    digest = f"sha256:{number:064x}"
    return LayerRecord(digest, digest, size, "application/x", LayerKind(kind), title, packages, title)


def record(name: str, *layers: LayerRecord) -> ImageRecord:
    return ImageRecord(
        name, f"sha256:{hashlib.sha256(name.encode(errors='replace')).hexdigest()}", "linux/amd64", layers
    )
