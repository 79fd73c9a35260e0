"""OCI image layouts, and the tool's layer directories out of them."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List


@dataclass
class Layout:
    """An OCI image layout with one image."""

    path: Path

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")

    def json(self, digest: str) -> Dict[str, Any]:
        data: Dict[str, Any] = json.loads(self.blob(digest).read_text())
        return data

    @property
    def manifest(self) -> Dict[str, Any]:
        index = json.loads((self.path / "index.json").read_text())
        return self.json(index["manifests"][0]["digest"])

    @property
    def config(self) -> Dict[str, Any]:
        return self.json(self.manifest["config"]["digest"])

    @property
    def layers(self) -> List[Dict[str, Any]]:
        layers: List[Dict[str, Any]] = self.manifest["layers"]
        return layers


def write_layer_directory(
    layout: Layout, number: int, directory: Path, kind: str, name: str, version: str = ""
) -> Path:
    """The layout's layer `number` as a layer directory, as the tool reads it. Returns `directory`."""
    descriptor = layout.layers[number]
    blob = layout.blob(descriptor["digest"])
    target = directory / "blobs" / "sha256" / blob.name
    target.parent.mkdir(parents=True)
    try:
        os.link(blob, target)
    except OSError:  # another file system
        shutil.copy(blob, target)
    description = {
        "kind": kind,
        "name": name,
        "version": version,
        "diff_id": layout.config["rootfs"]["diff_ids"][number],
        "digest": descriptor["digest"],
        "size": descriptor["size"],
        "media_type": descriptor["mediaType"],
        "files": 0,
        "opam": {"package": f"{name}.{version}"} if kind == "package" else {},
        "dpkg": owners_in(target),
    }
    (directory / "layer.json").write_text(json.dumps(description))
    return directory


def owners_in(blob: Path) -> Dict[str, Dict[str, str]]:
    """What a layer's description says of owners, by its archive alone: names are those of its own accounts."""
    owners: Dict[str, str] = {}
    names: Dict[str, Dict[str, str]] = {"etc/passwd": {}, "etc/group": {}}
    with tarfile.open(blob, "r:*", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            if member.name in names:
                file = archive.extractfile(member)
                lines = file.read().decode().splitlines() if file else []
                names[member.name] = {line.split(":")[2]: line.split(":")[0] for line in lines}
            if (member.uid, member.gid) != (0, 0) and not f"{member.name}/".startswith("home/opam/"):
                owners[member.name] = f"{member.uid}:{member.gid}"
    return {"owners": owners, "users": names["etc/passwd"], "groups": names["etc/group"]} if owners else {}


def layer_directories(layout: Layout, target: Path) -> List[Path]:
    """The layout's base and opam-root as layer directories."""
    kinds = (("base", "base"), ("opam-root", "default"))
    return [
        write_layer_directory(layout, number, target / kind, kind, name) for number, (kind, name) in enumerate(kinds)
    ]
