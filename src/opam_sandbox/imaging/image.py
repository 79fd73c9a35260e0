"""`image`: the manifest, the config and the index of an OCI image layout whose layers are there already, and its SBOM.

Writes JSON only; every layer's blob is read once and its sha256 compared, so that a blob which was damaged on its way is
never part of an image. Source: OCI image-spec 1.1 (manifest.md, config.md, image-layout.md, annotations.md).
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

from opam_sandbox.errors import RequestError
from opam_sandbox.files import write_json
from opam_sandbox.imaging import sbom
from opam_sandbox.imaging.requests import HistoryEntry, ImageRequest, ImageSummary
from opam_sandbox.layer.description import Layer, read_layers
from opam_sandbox.layer.read_blob import check_blob
from opam_sandbox.oci.spec import (
    CONFIG_TYPE,
    CREATED,
    EMPTY_TYPE,
    INDEX_FILE,
    INDEX_TYPE,
    LAYOUT,
    LAYOUT_FILE,
    MANIFEST_TYPE,
    REF_NAME,
    TITLE,
)


def run(request: ImageRequest, jobs: int) -> int:
    """Write the layout's JSON, image.json and the SBOM. Returns the exit status; raises ToolError for a damaged blob."""
    layers = read_layers(request["layers"])
    history = request["history"]
    if len(history) != len(layers):
        raise RequestError(f"history: it has {len(history)} entries for {len(layers)} layers")
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(_verify, layers))
    created = request["created"]
    config = {
        "created": created,
        "architecture": request["architecture"],
        "os": request["os"],
        "config": request["config"],
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [_history(entry, created) for entry in history],
    }
    config_descriptor = _json_blob(config, CONFIG_TYPE)
    manifest: Dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config_descriptor,
        "layers": [_layer_descriptor(layer, entry.get("title", "")) for layer, entry in zip(layers, history)],
    }
    if request.get("annotations"):
        manifest["annotations"] = request["annotations"]
    image = _json_blob(manifest, MANIFEST_TYPE)
    referrers = _referrers(request, layers, image, created)
    descriptor = {**image, "platform": {"architecture": config["architecture"], "os": config["os"]}}
    if request.get("ref_name"):
        descriptor["annotations"] = {REF_NAME: request["ref_name"]}
    write_json(INDEX_FILE, {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor, *referrers]})
    write_json(LAYOUT_FILE, LAYOUT)
    summary: ImageSummary = {
        "manifest_digest": image["digest"],
        "config_digest": config_descriptor["digest"],
        "layers": len(layers),
        "size": sum(layer.size for layer in layers) + config_descriptor["size"] + image["size"],
    }
    write_json("image.json", summary)
    return 0


def _verify(layer: Layer) -> None:
    check_blob(layer.blob, layer.digest, layer.size, f"the blob of {layer.title}")


def _layer_descriptor(layer: Layer, title: str) -> Dict[str, Any]:
    descriptor: Dict[str, Any] = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
    if title:
        descriptor["annotations"] = {TITLE: title}
    return descriptor


def _history(entry: HistoryEntry, created: str) -> Dict[str, str]:
    result = {"created": created, "created_by": entry["created_by"]}
    if entry.get("comment"):
        result["comment"] = entry["comment"]
    return result


def _referrers(request: ImageRequest, layers: List[Layer], image: Dict[str, Any], created: str) -> List[Dict[str, Any]]:
    """Writes the SBOM's files; returns the index's entries of the manifests that attach them to the image."""
    if "sbom" not in request:
        return []
    wanted = request["sbom"]
    contents = sbom.read_contents(wanted, layers, image["digest"], created)
    entries: List[Dict[str, Any]] = []
    for form in sbom.FORMATS:
        content = sbom.encode(form.document(contents))
        Path(f"sbom.{form.suffix}").write_bytes(content)
        if not wanted["attach"]:
            continue
        file = _blob(content, form.media_type)
        file["annotations"] = {TITLE: f"sbom.{form.suffix}"}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": form.media_type,
            "config": {**_blob(b"{}", EMPTY_TYPE), "data": "e30="},
            "layers": [file],
            "subject": image,
            "annotations": {CREATED: created},
        }
        entries.append({**_json_blob(manifest, MANIFEST_TYPE), "artifactType": form.media_type})
    return entries


def _json_blob(data: Any, media_type: str) -> Dict[str, Any]:
    """Write JSON as a blob (sorted keys, no white space) and return its descriptor."""
    return _blob(json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(), media_type)


def _blob(content: bytes, media_type: str) -> Dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    directory = Path("blobs/sha256")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
