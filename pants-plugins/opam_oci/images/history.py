"""What an image's history says of its layers."""

from __future__ import annotations

from typing import Iterable

from pants.util.strutil import pluralize

from opam_oci.images.image_texts import HistoryEntry
from opam_oci.images.parts import ImageParts
from opam_oci.layers.base_image import BaseImageLayers
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.sandbox.layer import Layer


def package_history(parts: ImageParts, layers: Iterable[Layer]) -> HistoryEntry:
    """What the history says of a layer that is made of these packages' layers."""
    unions = {union.package.name: union for union in parts.packages}
    found = [unions[layer.name] for layer in layers]
    names = " ".join(union.package.full_name for union in found)
    sources = [
        f"{union.package.name} {source.name or 'source'} sha256:{source.sha256}"
        for union in found
        for source in union.package.sources
    ]
    resolves = sorted({resolve for union in found for resolve in union.resolves})
    return {
        "created_by": f"opam install {names}",
        "comment": "; ".join([f"opam resolve {', '.join(resolves)}", *sources]),
        "title": names,
    }


def base_history(lock: DebianLock) -> HistoryEntry:
    """What the history says of a base."""
    return {
        "created_by": f"debian_rootfs {lock.resolve}",
        "comment": f"Debian {lock.suite} {lock.architecture}, {pluralize(len(lock.debs), 'package')} of {lock.path}",
    }


def base_image_history(base: BaseImageLayers) -> HistoryEntry:
    """What the history says of each layer of a base that others made."""
    entry: HistoryEntry = {"created_by": f"oci_base_image {base.image.address.target_name}"}
    return entry if base.image.is_scratch else {**entry, "comment": f"a layer of {base.image.reference}"}


OPAM_ROOT_HISTORY: HistoryEntry = {"created_by": "opam init", "comment": "the user opam and an empty switch"}

STATE_HISTORY: HistoryEntry = {"created_by": "state of opam, dpkg and ld.so for the layers below"}


def runtime_history(parts: ImageParts) -> HistoryEntry:
    """What the history says of the layer of a runtime image."""
    names = " ".join(sorted({name for selection in parts.selections for name in selection.names}))
    return {"created_by": f"runtime files of {names}", "title": f"{names} (runtime)"}
