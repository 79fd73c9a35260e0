"""OCI image-spec 1.1 as JSON schemas: descriptor.md, manifest.md, image-index.md, config.md, image-layout.md.

Written after the specification's text; stricter than it in one respect: unknown properties are not allowed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List

from jsonschema import Draft7Validator

_STRING = {"type": "string"}
_STRINGS = {"type": "array", "items": _STRING}
_TEXTS = {"type": "object", "additionalProperties": _STRING}
_EMPTY_OBJECTS = {"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}}
_DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_TYPE = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$",
}
_TIME = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$",
}


def _object(required: Dict[str, Any], optional: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "type": "object",
        "required": sorted(required),
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


_PLATFORM = _object({"architecture": _STRING, "os": _STRING}, {"variant": _STRING, "os.version": _STRING})
_DESCRIPTOR = _object(
    {"mediaType": _TYPE, "digest": _DIGEST, "size": {"type": "integer", "minimum": 0}},
    {"annotations": _TEXTS, "artifactType": _TYPE, "data": _STRING, "platform": _PLATFORM, "urls": _STRINGS},
)
_VERSION = {"schemaVersion": {"const": 2}}
INDEX = _object(
    {**_VERSION, "manifests": {"type": "array", "items": _DESCRIPTOR}},
    {
        "mediaType": {"const": "application/vnd.oci.image.index.v1+json"},
        "artifactType": _TYPE,
        "subject": _DESCRIPTOR,
        "annotations": _TEXTS,
    },
)
MANIFEST = _object(
    {**_VERSION, "config": _DESCRIPTOR, "layers": {"type": "array", "items": _DESCRIPTOR, "minItems": 1}},
    {
        "mediaType": {"const": "application/vnd.oci.image.manifest.v1+json"},
        "artifactType": _TYPE,
        "subject": _DESCRIPTOR,
        "annotations": _TEXTS,
    },
)
CONFIG = _object(
    {
        "architecture": _STRING,
        "os": _STRING,
        "rootfs": _object({"type": {"const": "layers"}, "diff_ids": {"type": "array", "items": _DIGEST}}, {}),
    },
    {
        "created": _TIME,
        "author": _STRING,
        "variant": _STRING,
        "config": _object(
            {},
            {
                "User": _STRING,
                "ExposedPorts": _EMPTY_OBJECTS,
                "Env": {"type": "array", "items": {"type": "string", "pattern": "^[^=]+=[^\\x00]*$"}},
                "Entrypoint": _STRINGS,
                "Cmd": _STRINGS,
                "Volumes": _EMPTY_OBJECTS,
                "WorkingDir": _STRING,
                "Labels": _TEXTS,
                "StopSignal": _STRING,
            },
        ),
        "history": {
            "type": "array",
            "items": _object(
                {},
                {
                    "created": _TIME,
                    "created_by": _STRING,
                    "author": _STRING,
                    "comment": _STRING,
                    "empty_layer": {"type": "boolean"},
                },
            ),
        },
    },
)
LAYOUT = _object({"imageLayoutVersion": {"const": "1.0.0"}}, {})

_LAYERS = {f"application/vnd.oci.image.layer.v1.tar{suffix}" for suffix in ("", "+gzip", "+zstd")}


def problems(layout: Path) -> List[str]:
    """What in an image layout is not as the specification has it: JSON, digests, sizes, counts, media types."""
    found: List[str] = []

    def check(name: str, data: Any, schema: Dict[str, Any]) -> None:
        found.extend(
            f"{name}: {error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(data)
        )

    def read(descriptor: Dict[str, Any]) -> bytes:
        path = layout / "blobs" / descriptor["digest"].replace(":", "/")
        content = path.read_bytes() if path.exists() else b""
        if descriptor["size"] != len(content) or hashlib.sha256(content).hexdigest() != path.name:
            found.append(f"{descriptor['digest']} is missing or damaged")
        return content

    def manifest(descriptor: Dict[str, Any]) -> None:
        data = json.loads(read(descriptor))
        if descriptor["mediaType"].endswith("index.v1+json"):
            check(descriptor["digest"], data, INDEX)
            for one in data["manifests"]:
                manifest(one)
            return
        check(descriptor["digest"], data, MANIFEST)
        content = read(data["config"])
        for layer in data["layers"]:
            read(layer)
        if "artifactType" in data:
            if data["artifactType"] != descriptor.get("artifactType"):
                found.append(f"{descriptor['digest']}: the index does not say its artifactType")
            return
        config = json.loads(content)
        check(data["config"]["digest"], config, CONFIG)
        if not len(config["rootfs"]["diff_ids"]) == len(data["layers"]) == len(config["history"]):
            found.append(f"{descriptor['digest']}: layers, diff_ids and history differ in number")
        found.extend(f"no layer: {one['mediaType']}" for one in data["layers"] if one["mediaType"] not in _LAYERS)

    check("oci-layout", json.loads((layout / "oci-layout").read_text()), LAYOUT)
    index = json.loads((layout / "index.json").read_text())
    check("index.json", index, INDEX)
    for one in index["manifests"]:
        manifest(one)
    return found
