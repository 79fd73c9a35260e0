"""`image`: the manifest, the config and the index of an OCI image layout whose layers are there already.

Writes JSON only; every layer's blob is read once and its sha256 compared, so that a blob which was damaged on its way is
never part of an image. Source: OCI image-spec 1.1 (manifest.md, config.md, image-layout.md, annotations.md).
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict

from opam_sandbox.errors import ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.layer import Layer, read_layers, write_json
from opam_sandbox.request import Request

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def run(request: Request, jobs: int) -> int:
    layers = read_layers(request.strings("layers"))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(_verify, layers))
    created = request.get("created", str)
    config = {
        "created": created,
        "architecture": request.get("architecture", str),
        "os": request.get("os", str),
        "config": request.get("config", dict),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": _history(layer)} for layer in layers],
    }
    config_descriptor = _blob(config, CONFIG_TYPE)
    manifest: Dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config_descriptor,
        "layers": [_layer_descriptor(layer) for layer in layers],
    }
    annotations: Dict[str, str] = request.get_or("annotations", {})
    if annotations:
        manifest["annotations"] = annotations
    manifest_descriptor = _blob(manifest, MANIFEST_TYPE)
    manifest_descriptor["platform"] = {"architecture": config["architecture"], "os": config["os"]}
    ref_name = request.get_or("ref_name", "")
    if ref_name:
        manifest_descriptor["annotations"] = {"org.opencontainers.image.ref.name": ref_name}
    write_json("index.json", {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [manifest_descriptor]})
    write_json("oci-layout", {"imageLayoutVersion": "1.0.0"})
    write_json(
        "image.json",
        {
            "manifest_digest": manifest_descriptor["digest"],
            "config_digest": config_descriptor["digest"],
            "layers": len(layers),
            "size": sum(layer.size for layer in layers) + config_descriptor["size"] + manifest_descriptor["size"],
        },
    )
    return 0


def _verify(layer: Layer) -> None:
    try:
        found, size = file_sha256(layer.blob)
    except OSError as error:
        raise ToolError(f"the blob of {layer.title} cannot be read: {error}") from None
    if f"sha256:{found}" != layer.digest or size != layer.size:
        raise ToolError(
            f"the blob of {layer.title} is damaged: it has {size} bytes with sha256:{found}, "
            f"but should have {layer.size} with {layer.digest}. Clear the cache that it came from."
        )


def _layer_descriptor(layer: Layer) -> Dict[str, Any]:
    descriptor: Dict[str, Any] = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
    if layer.kind == "package":
        descriptor["annotations"] = {"org.opencontainers.image.title": layer.title}
    return descriptor


def _history(layer: Layer) -> str:
    return {
        "base": f"debian_rootfs {layer.name}",
        "opam-root": "opam init",
        "package": f"opam install {layer.title}",
        "state": "state of opam, dpkg and ld.so for the layers below",
    }[layer.kind]


def _blob(data: Any, media_type: str) -> Dict[str, Any]:
    """Write JSON as a blob (sorted keys, no white space) and return its descriptor."""
    content = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    digest = hashlib.sha256(content).hexdigest()
    directory = Path("blobs/sha256")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
