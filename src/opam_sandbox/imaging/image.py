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

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.files import file_sha256
from opam_sandbox.imaging import sbom
from opam_sandbox.layer import Layer, read_layers, write_json
from opam_sandbox.request import Request

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
# What a manifest has for a config that says nothing (image-spec, manifest.md, "Guidance for an Empty Descriptor").
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

TITLE = "org.opencontainers.image.title"
REF_NAME = "org.opencontainers.image.ref.name"


def run(request: Request, jobs: int) -> int:
    layers = read_layers(request.strings("layers"))
    history = request.objects("history")
    if len(history) != len(layers):
        raise RequestError(f"history: {len(history)} entries for {len(layers)} layers")
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(_verify, layers))
    created = request.get("created", str)
    config = {
        "created": created,
        "architecture": request.get("architecture", str),
        "os": request.get("os", str),
        "config": request.get("config", dict),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [_history(entry, created) for entry in history],
    }
    config_descriptor = _json_blob(config, CONFIG_TYPE)
    manifest: Dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config_descriptor,
        "layers": [_layer_descriptor(layer, entry.get_or("title", "")) for layer, entry in zip(layers, history)],
    }
    annotations: Dict[str, str] = request.get_or("annotations", {})
    if annotations:
        manifest["annotations"] = annotations
    image = _json_blob(manifest, MANIFEST_TYPE)
    referrers = _referrers(request, layers, image, created)
    descriptor = {**image, "platform": {"architecture": config["architecture"], "os": config["os"]}}
    ref_name = request.get_or("ref_name", "")
    if ref_name:
        descriptor["annotations"] = {REF_NAME: ref_name}
    write_json("index.json", {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor, *referrers]})
    write_json("oci-layout", {"imageLayoutVersion": "1.0.0"})
    write_json(
        "image.json",
        {
            "manifest_digest": image["digest"],
            "config_digest": config_descriptor["digest"],
            "layers": len(layers),
            "size": sum(layer.size for layer in layers) + config_descriptor["size"] + image["size"],
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


def _layer_descriptor(layer: Layer, title: str) -> Dict[str, Any]:
    descriptor: Dict[str, Any] = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
    if title:
        descriptor["annotations"] = {TITLE: title}
    return descriptor


def _history(entry: Request, created: str) -> Dict[str, str]:
    result = {"created": created, "created_by": entry.get("created_by", str)}
    comment = entry.get_or("comment", "")
    if comment:
        result["comment"] = comment
    return result


def _referrers(request: Request, layers: List[Layer], image: Dict[str, Any], created: str) -> List[Dict[str, Any]]:
    """Writes the SBOM's files; returns the index's entries of the manifests that attach them to the image."""
    if not request.get_or("sbom", {}):
        return []
    wanted = request.object("sbom")
    contents = sbom.read_contents(wanted, layers, image["digest"], created)
    entries: List[Dict[str, Any]] = []
    for form in sbom.FORMATS:
        content = sbom.encode(form.document(contents))
        Path(f"sbom.{form.suffix}").write_bytes(content)
        if not wanted.get("attach", bool):
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
            "annotations": {"org.opencontainers.image.created": created},
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
