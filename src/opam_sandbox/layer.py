"""A layer as it lies on disk between processes: a directory with `layer.json` and `blobs/sha256/<digest>`."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

from opam_sandbox.errors import RequestError

KINDS = ("base", "opam-root", "package", "state")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Layer:
    """What `layer.json` says. Digests are `sha256:<hex>`, sizes in bytes; `opam` and `dpkg` : see `imaging/state.py`."""

    directory: Path
    kind: str
    name: str
    version: str
    diff_id: str
    digest: str
    size: int
    media_type: str
    files: int
    opam: Dict[str, Any]
    dpkg: Dict[str, Any]

    @property
    def blob(self) -> Path:
        return self.directory / "blobs" / self.digest.replace(":", "/")

    @property
    def title(self) -> str:
        """`lwt.5.6.1` for packages, `base trixie` for others."""
        return f"{self.name}.{self.version}" if self.kind == "package" else f"{self.kind} {self.name}".strip()


_TYPES = {
    "kind": str,
    "name": str,
    "version": str,
    "diff_id": str,
    "digest": str,
    "size": int,
    "media_type": str,
    "files": int,
    "opam": dict,
    "dpkg": dict,
}


def read_layer(directory: Path) -> Layer:
    path = directory / "layer.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        layer = Layer(
            directory=directory,
            kind=data["kind"],
            name=data["name"],
            version=data["version"],
            diff_id=data["diff_id"],
            digest=data["digest"],
            size=data["size"],
            media_type=data["media_type"],
            files=data["files"],
            opam=data["opam"],
            dpkg=data["dpkg"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is no description of a layer: {error!r}") from None
    for name, kind in _TYPES.items():
        if not isinstance(getattr(layer, name), kind):
            raise RequestError(f"{path} is no description of a layer: {name!r} should be {kind.__name__}")
    if layer.kind not in KINDS:
        raise RequestError(f"{path} is no description of a layer: its kind is {layer.kind!r}")
    for digest in (layer.diff_id, layer.digest):
        if not _DIGEST.fullmatch(digest):
            raise RequestError(f"{path} is no description of a layer: {digest!r} is no digest")
    return layer


def read_layers(directories: List[str]) -> List[Layer]:
    return [read_layer(Path(directory)) for directory in directories]


def write_json(path: str, data: Any) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as out:
        json.dump(data, out, indent=1, sort_keys=True, ensure_ascii=False)
        out.write("\n")
    os.replace(temporary, path)
