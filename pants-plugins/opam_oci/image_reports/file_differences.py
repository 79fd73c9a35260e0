"""In which paths layers of two images differ, as the tool's `compare-files` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Sequence

from opam_oci.image_reports.differences import Change, Difference, LayerDifference
from opam_oci.image_reports.records import ImageRecord, LayerRecord

if TYPE_CHECKING:
    from opam_sandbox.comparing.requests import LayerOfImage, LayerPair


@dataclass(frozen=True)
class PathDifference:
    """A path that two layers do not have alike. before, after: "kind", "mode" (octal), "uid", "gid", "size", "time", "content" (a
    file's sha256), "target", "device", "attributes"; None where it is not there. package: who has it, as `opam lwt`, if known.
    fields: names of those that differ, where both have it."""

    path: str
    package: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    fields: tuple[str, ...]


@dataclass(frozen=True)
class LayerFiles:
    """Of the layers of a `Difference`, number `number`. lone: only one image has such a layer; what lies in a lone layer of the
    other one is told there."""

    number: int
    title: str
    lone: bool
    paths: tuple[PathDifference, ...]

    @property
    def bytes_change(self) -> int:
        """How many bytes more all its files have, uncompressed."""
        return sum(_size(one.after) - _size(one.before) for one in self.paths)


@dataclass(frozen=True)
class FileDifferences:
    """In the order of the difference's layers, those whose content is not the same."""

    layers: tuple[LayerFiles, ...]

    def of_layer(self, number: int) -> LayerFiles | None:
        """None of a layer whose content is the same in both."""
        return next((one for one in self.layers if one.number == number), None)


def _size(item: Mapping[str, Any] | None) -> int:
    return int(item["size"]) if item is not None and item["kind"] == "file" else 0


def compared_layers(difference: Difference, repacked: bool = False) -> list[tuple[int, LayerDifference]]:
    """The layers, with their numbers, of which the files are compared. repacked: those also that are said to be compressed
    otherwise."""
    layers = enumerate(difference.layers)
    return [(number, one) for number, one in layers if repacked or one.change is not Change.repacked]


def pairs(layers: Iterable[tuple[int, LayerDifference]]) -> list[LayerPair]:
    """`layers` of the tool's request."""
    return [
        {
            "first": [] if one.before is None else [_layer(one.before)],
            "second": [] if one.after is None else [_layer(one.after)],
        }
        for _, one in layers
    ]


def others(image: ImageRecord, wanted: Sequence[LayerRecord | None]) -> list[LayerOfImage]:
    """`others` of an image: its layers that are none of these."""
    digests = {layer.digest for layer in wanted if layer is not None}
    return [_layer(layer) for layer in image.layers if layer.digest not in digests]


def _layer(layer: LayerRecord) -> LayerOfImage:
    return {
        "name": layer.title,
        "media_type": layer.media_type,
        "digest": layer.digest,
        "diff_id": layer.diff_id,
    }


def read_file_differences(layers: Iterable[tuple[int, LayerDifference]], values: Mapping[str, Any]) -> FileDifferences:
    """What the tool wrote of these layers."""
    return FileDifferences(
        tuple(
            LayerFiles(
                number,
                layer.title,
                layer.before is None or layer.after is None,
                tuple(
                    PathDifference(one["path"], one["package"], one["before"], one["after"], tuple(one["fields"]))
                    for one in found["paths"]
                ),
            )
            for (number, layer), found in zip(layers, values["layers"])
        )
    )
