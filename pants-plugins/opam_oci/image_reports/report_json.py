"""What images share, as JSON: `report.schema.json` says what is in it."""

from __future__ import annotations

import json
from typing import Any

from opam_oci.image_reports.records import ImageRecord, LayerRecord
from opam_oci.image_reports.sharing import Sharing

# Raised when a field is added, changes or goes.
SCHEMA = 1


def write_json(sharing: Sharing) -> str:
    """The same for the same images, in ASCII: what other tools wrote into an image may be no valid text."""
    return json.dumps(report_values(sharing), indent=1) + "\n"


def report_values(sharing: Sharing) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "schema": SCHEMA,
        "totals": {
            "images": len(sharing.images),
            "layers": sharing.layers,
            "unique_blobs": len(sharing.blobs),
            "bytes_without_sharing": sharing.without_sharing,
            "bytes_on_disk": sharing.on_disk,
            "bytes_saved": sharing.saved,
            "percent_saved": sharing.saved_percent,
        },
        "images": [
            {
                **image_values(image),
                "bytes_own": sharing.own(image),
                "layers": [layer.digest for layer in image.layers],
            }
            for image in sharing.images
        ],
        "blobs": [{**layer_values(blob.layer), "images": list(blob.images)} for blob in sharing.blobs],
        "packages": [
            {
                "name": full_name.partition(".")[0],
                "version": full_name.partition(".")[2],
                "blobs": [blob.layer.digest for blob in blobs],
                "images": sorted({name for blob in blobs for name in blob.images}),
            }
            for full_name, blobs in sharing.packages().items()
        ],
    }


def image_values(image: ImageRecord) -> dict[str, Any]:
    """An image but its layers."""
    return {
        "name": image.name,
        "manifest": image.manifest,
        "platform": image.platform,
        "bytes": image.size,
    }


def layer_values(layer: LayerRecord) -> dict[str, Any]:
    """A layer's blob."""
    return {
        "digest": layer.digest,
        "diff_id": layer.diff_id,
        "bytes": layer.size,
        "media_type": layer.media_type,
        "kind": layer.kind.value,
        "title": layer.title,
        "packages": list(layer.packages),
        "created_by": layer.created_by,
    }
