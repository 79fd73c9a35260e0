"""archive: an image layout as one file that skopeo reads, the same bytes every time."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from opam_sandbox.imaging import archive, image
from tests.unit.conftest import make_layer, make_tar, member
from tests.unit.test_image import request


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image layout in layout/ with two layers in in/; the digest of its config."""
    monkeypatch.chdir(tmp_path)
    layers = [make_layer(tmp_path / f"in/{n}", make_tar([member(f"f{n}", content=b"x")])) for n in range(2)]
    image.run(request(2, ref_name="latest"), 1)
    Path("layout").mkdir()
    for name in ("index.json", "oci-layout", "blobs"):
        shutil.move(name, f"layout/{name}")
    for layer in layers:
        shutil.copy(layer.blob, "layout/blobs/sha256")
    digest: str = json.loads(Path("image.json").read_text())["config_digest"]
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
