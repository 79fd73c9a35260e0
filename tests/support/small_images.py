"""Small images for tests and benchmarks of publishing: valid OCI image layouts of a few kilobytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, Dict, List, Sequence

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def layer_tar(files: Dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), 1, 0o755
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def write_blob(layout: Path, content: bytes, media_type: str) -> Dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    path = layout / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def write_json_blob(layout: Path, data: Any, media_type: str) -> Dict[str, Any]:
    return write_blob(layout, json.dumps(data, sort_keys=True).encode(), media_type)


def make_image(layout: Path, layers: Sequence[Dict[str, bytes]], referrers: int = 0, **config: Any) -> str:
    """Write a layout of one image named `latest`, a layer for each mapping of names to contents; returns the manifest's
    digest. The same layers are the same blobs in every image. `referrers`: so many other manifests are about it."""
    return image_of_tars(layout, [layer_tar(files) for files in layers], referrers, **config)


def image_of_tars(layout: Path, tars: Sequence[bytes], referrers: int = 0, **config: Any) -> str:
    """As `make_image`, of layers that are tars already."""
    descriptors = [write_blob(layout, gzip.compress(tar, 1, mtime=0), LAYER_TYPE) for tar in tars]
    description = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"], **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": write_json_blob(layout, description, CONFIG_TYPE),
        "layers": descriptors,
    }
    entry = write_json_blob(layout, manifest, MANIFEST_TYPE)
    entries = [{**entry, "annotations": {"org.opencontainers.image.ref.name": "latest"}}]
    for number in range(referrers):
        about = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": f"application/x-{number}",
            "config": write_blob(layout, b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [write_blob(layout, f"about {number}".encode(), f"application/x-{number}")],
            "subject": entry,
        }
        entries.append(write_json_blob(layout, about, MANIFEST_TYPE))
    write_index(layout, entries)
    return str(entry["digest"])


def write_index(layout: Path, entries: List[Dict[str, Any]]) -> None:
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def numbered_image(layout: Path, number: int, shared: int = 3, own: int = 1, size: int = 2000) -> str:
    """An image with `shared` layers that all numbered images have, and `own` that only this one has."""
    layers = [{f"shared-{n}": _content(f"shared {n}", size)} for n in range(shared)]
    layers += [{f"own-{number}-{n}": _content(f"own {number} {n}", size)} for n in range(own)]
    return make_image(layout, layers)


def _content(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    pieces = (hashlib.sha256(f"{seed} {n}".encode()).digest() for n in range(size // 32 + 1))
    return b"".join(pieces)[:size]
