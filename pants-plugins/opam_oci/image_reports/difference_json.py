"""In what two images differ, as JSON: `difference.schema.json` says what is in it."""

from __future__ import annotations

import json
from typing import Any, Mapping

from opam_oci.image_reports.differences import Difference, LayerDifference, PackageDifference
from opam_oci.image_reports.file_differences import FileDifferences, LayerFiles
from opam_oci.image_reports.records import ImageRecord
from opam_oci.image_reports.report_json import image_values, layer_values

# Raised when a field is added, changes or goes.
SCHEMA = 1


def write_json(difference: Difference, files: FileDifferences | None) -> str:
    """The same for the same images."""
    # A byte of a name that was no UTF-8 has an escape.
    return json.dumps(difference_values(difference, files), indent=1) + "\n"


def difference_values(difference: Difference, files: FileDifferences | None) -> dict[str, Any]:
    """The difference as JSON values."""
    return {
        "schema": SCHEMA,
        "same_image": difference.is_same_image,
        "before": _image(difference.before),
        "after": _image(difference.after),
        "same_layers": difference.same_layers,
        "reordered": difference.reordered,
        "packages": [_package(one) for one in difference.packages],
        "layers": [
            _layer(one, files.of_layer(number) if files else None) for number, one in enumerate(difference.layers)
        ],
        "config": [
            {"field": one.field, "key": one.key, "before": one.before, "after": one.after} for one in difference.values
        ],
    }


def _image(image: ImageRecord) -> dict[str, Any]:
    return {**image_values(image), "ours": image.is_ours, "layers": len(image.layers)}


def _package(one: PackageDifference) -> dict[str, Any]:
    return {
        "name": one.name,
        "change": one.change.value,
        "before": one.before,
        "after": one.after,
        "bytes_before": one.bytes_before,
        "bytes_after": one.bytes_after,
    }


def _layer(one: LayerDifference, files: LayerFiles | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "change": one.change.value,
        "before": None if one.before is None else layer_values(one.before),
        "after": None if one.after is None else layer_values(one.after),
    }
    if files is not None:
        values["file_bytes_change"] = files.bytes_change
        values["paths"] = [
            {
                "path": path.path,
                "package": path.package,
                "before": _item(path.before),
                "after": _item(path.after),
                "fields": list(path.fields),
            }
            for path in files.paths
        ]
    return values


def _item(item: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if item is None else dict(item)
