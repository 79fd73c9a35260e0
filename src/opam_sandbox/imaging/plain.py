"""The plain tar of a layer as the package builds make them (gzip), checked on the way."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from typing import Callable

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import Layer

_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def copy_plain(layer: Layer, write: Callable[[bytes], object]) -> None:
    """Send the layer's uncompressed tar to `write`. Raises ToolError unless blob and content are what the layer says."""
    if layer.media_type != _GZIP:
        raise ToolError(f"{layer.title}: layers are made anew from gzip blobs, not from {layer.media_type}")
    packed, plain = hashlib.sha256(), hashlib.sha256()
    try:
        with open(layer.blob, "rb") as blob:
            for data in iter(lambda: blob.read(1 << 20), b""):
                packed.update(data)
            blob.seek(0)
            with gzip.GzipFile(fileobj=blob, mode="rb") as content:
                for data in iter(lambda: content.read(1 << 20), b""):
                    plain.update(data)
                    write(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ToolError(f"{layer.title}: its blob {layer.blob} cannot be read: {error}") from None
    for name, found, wanted in (
        ("blob", packed.hexdigest(), layer.digest),
        ("content", plain.hexdigest(), layer.diff_id),
    ):
        if f"sha256:{found}" != wanted:
            raise ToolError(f"{layer.title} is damaged: the sha256 of its {name} is {found}, but should be {wanted}")
