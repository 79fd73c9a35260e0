"""The image-spec project's own JSON schemas, as Debian packages them, beside what `oci_schema` says after the text.

Debian 12 has those of 1.1.0-rc2. They allow properties that they do not know, such as the later `artifactType` and `subject`.
"""

from __future__ import annotations

import json
import posixpath
from functools import lru_cache
from pathlib import Path
from typing import Any, List

from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from tests.support.layouts import Layout

# build-support/host-tools installs them.
SCHEMAS = Path("/usr/share/gocode/src/github.com/opencontainers/image-spec/schema")

_BY_MEDIA_TYPE = {
    "application/vnd.oci.image.index.v1+json": "image-index-schema.json",
    "application/vnd.oci.image.manifest.v1+json": "image-manifest-schema.json",
    "application/vnd.oci.image.config.v1+json": "config-schema.json",
}


def _schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text())


def _by_last_part(uri: str) -> "Resource[Any]":
    # They refer to each other by file names, below ids that lead nowhere.
    return DRAFT4.create_resource(_schema(posixpath.basename(uri)))


@lru_cache(maxsize=None)
def _validator(name: str) -> Draft4Validator:
    return Draft4Validator(
        _schema(name),
        registry=Registry(retrieve=_by_last_part),  # type: ignore[call-arg]
        format_checker=Draft4Validator.FORMAT_CHECKER,
    )


def violations(layout: Path) -> List[str]:
    """What in a layout's JSON, from oci-layout to the configs, the schemas do not allow."""
    found: List[str] = []

    def check(where: str, data: Any, schema: str) -> None:
        found.extend(f"{where}: {e.json_path}: {e.message}" for e in _validator(schema).iter_errors(data))

    def follow(descriptor: Any) -> None:
        schema = _BY_MEDIA_TYPE.get(descriptor["mediaType"])
        if schema is None:
            return
        data = Layout(layout).json(descriptor["digest"])
        check(descriptor["digest"], data, schema)
        for below in [*data.get("manifests", []), *([data["config"]] if "layers" in data else [])]:
            follow(below)

    check("oci-layout", json.loads((layout / "oci-layout").read_text()), "image-layout-schema.json")
    index = json.loads((layout / "index.json").read_text())
    check("index.json", index, "image-index-schema.json")
    for entry in index["manifests"]:
        follow(entry)
    return found
