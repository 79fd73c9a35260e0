"""archive: an image layout as one file that skopeo reads, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Dict

import pytest

from opam_sandbox.imaging import archive
from opam_sandbox.oci import spec
from tests.support.small_images import CONFIG_TYPE
from tests.unit.conftest import make_layer, make_tar, member


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image layout in layout/ with two layers in in/; the digest of its config."""
    monkeypatch.chdir(tmp_path)
    layers = [make_layer(tmp_path / f"in/{n}", make_tar([member(f"f{n}", content=b"x")])) for n in range(2)]
    blobs = Path("layout/blobs/sha256")
    blobs.mkdir(parents=True)
    for layer in layers:
        shutil.copy(layer.blob, blobs)

    def blob(data: Any, media_type: str) -> Dict[str, Any]:
        content = json.dumps(data).encode()
        sha256 = hashlib.sha256(content).hexdigest()
        (blobs / sha256).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": len(content)}

    rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    described = blob({"architecture": "amd64", "os": "linux", "rootfs": rootfs}, CONFIG_TYPE)
    listed = [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers]
    manifest = {"schemaVersion": 2, "mediaType": spec.MANIFEST_TYPE, "config": described, "layers": listed}
    entry = {**blob(manifest, spec.MANIFEST_TYPE), "annotations": {spec.REF_NAME: "latest"}}
    index = {"schemaVersion": 2, "mediaType": spec.INDEX_TYPE, "manifests": [entry]}
    Path("layout", spec.INDEX_FILE).write_text(json.dumps(index))
    Path("layout", spec.LAYOUT_FILE).write_text(json.dumps(spec.LAYOUT))
    digest: str = described["digest"]
    return digest


def make(kind: str, config: str) -> Path:
    one = {"config": config, "tags": ["name:tag"], "layers": ["in/0", "in/1"]}
    data: Any = {"format": kind, "layout": "layout", "images": [one]}
    archive.run(data, 1)
    return Path("image.tar")


@pytest.mark.parametrize(("kind", "reference"), [("oci-archive", ":latest"), ("docker-archive", "")])
def test_skopeo_reads_it(config: str, kind: str, reference: str) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("no skopeo on this machine")
    path = make(kind, config)
    copy = ["skopeo", "copy", "--quiet", f"{kind}:{path}{reference}", "dir:copy"]
    subprocess.run(copy, check=True)
    manifest = json.loads(Path("copy/manifest.json").read_text())
    assert manifest["config"]["digest"] == config and len(manifest["layers"]) == 2


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_same_bytes(config: str, kind: str) -> None:
    first = make(kind, config).read_bytes()
    assert make(kind, config).read_bytes() == first
    with tarfile.open("image.tar") as members:
        assert all((m.uid, m.gid, m.mtime) == (0, 0, 0) for m in members)


def test_a_layer_of_two_images_is_there_once(config: str) -> None:
    one = {"config": config, "tags": ["name:one"], "layers": ["in/0", "in/1"]}
    data = {"format": "docker-archive", "layout": "layout", "images": [one, {**one, "tags": ["name:two"]}]}
    archive.run(data, 1)
    with tarfile.open("image.tar") as members:
        names = members.getnames()
        manifest = members.extractfile("manifest.json")
        assert manifest is not None
        entries = json.load(manifest)
    assert len(names) == len(set(names))
    assert [entry["RepoTags"] for entry in entries] == [["name:one"], ["name:two"]]
    assert entries[0]["Layers"] == entries[1]["Layers"]
