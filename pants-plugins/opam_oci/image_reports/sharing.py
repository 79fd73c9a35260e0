"""What images share: their layers' blobs, each once, and which images have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from opam_oci.image_reports.records import ImageRecord, LayerRecord


@dataclass(frozen=True)
class Blob:
    """A layer's blob and the names of the images that have it, in the report's order."""

    layer: LayerRecord
    images: tuple[str, ...]


@dataclass(frozen=True)
class SharedBy:
    """The blobs that these images have, and no others of the report. size: bytes of all of them."""

    images: tuple[str, ...]
    blobs: tuple[Blob, ...]

    @property
    def size(self) -> int:
        return sum(blob.layer.size for blob in self.blobs)


@dataclass(frozen=True)
class Sharing:
    """Images, and the blobs of their layers: those of most images first, then the largest.

    Bytes are those of layers' blobs. Manifests, configurations and SBOMs, a few kilobytes for each image, do not count.
    """

    images: tuple[ImageRecord, ...]
    blobs: tuple[Blob, ...]

    @property
    def layers(self) -> int:
        """How many layers the images have, one that two have counted twice."""
        return sum(len(image.layers) for image in self.images)

    @property
    def without_sharing(self) -> int:
        """Bytes, if each image had blobs of its own."""
        return sum(image.size for image in self.images)

    @property
    def on_disk(self) -> int:
        """Bytes of all blobs, each once, as a layout or a registry keeps them."""
        return sum(blob.layer.size for blob in self.blobs)

    @property
    def saved(self) -> int:
        return self.without_sharing - self.on_disk

    @property
    def saved_percent(self) -> float:
        """Of the bytes without sharing."""
        return round(100 * self.saved / self.without_sharing, 1) if self.without_sharing else 0.0

    def own(self, image: ImageRecord) -> int:
        """Bytes of the blobs that no other image of the report has."""
        return sum(blob.layer.size for blob in self.blobs if blob.images == (image.name,))

    def groups(self) -> list[SharedBy]:
        """The blobs by the images that have them; what most images have first."""
        found: dict[tuple[str, ...], list[Blob]] = {}
        for blob in self.blobs:
            found.setdefault(blob.images, []).append(blob)
        groups = [SharedBy(images, tuple(blobs)) for images, blobs in found.items()]
        return sorted(groups, key=lambda group: (-len(group.images), -group.size, group.images))

    def packages(self) -> dict[str, list[Blob]]:
        """Full name -> the blobs with that package, by the name. Several: it was built over different packages, say."""
        found: dict[str, list[Blob]] = {}
        for blob in self.blobs:
            for full_name in blob.layer.packages:
                found.setdefault(full_name, []).append(blob)
        return dict(sorted(found.items()))


def sharing_of(images: Iterable[ImageRecord]) -> Sharing:
    """The images by name. Their names have to be different."""
    ordered = tuple(sorted(images, key=lambda image: image.name))
    assert len({image.name for image in ordered}) == len(ordered)
    layers: dict[str, LayerRecord] = {}
    holders: dict[str, dict[str, None]] = {}
    for image in ordered:
        for layer in image.layers:
            layers.setdefault(layer.digest, layer)
            holders.setdefault(layer.digest, {})[image.name] = None
    blobs = [Blob(layer, tuple(holders[digest])) for digest, layer in layers.items()]
    blobs.sort(key=lambda blob: (-len(blob.images), -blob.layer.size, blob.layer.title, blob.layer.digest))
    return Sharing(ordered, tuple(blobs))
