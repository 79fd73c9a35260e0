"""image: valid OCI JSON around layers whose bytes were checked."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict, List

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.imaging import image
from opam_sandbox.imaging.requests import ImageRequest
from opam_sandbox.layer.description import Layer
from opam_sandbox.oci import spec
from tests.support.oci_schema import problems
from tests.unit.conftest import make_layer, make_tar, member


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> List[Layer]:
    monkeypatch.chdir(tmp_path)
    kinds = [("base", "trixie"), ("opam-root", "default"), ("package", "lwt"), ("state", "")]
    return [
        make_layer(tmp_path / f"in/{number}", make_tar([member(f"f{number}", content=b"x")]), kind, name)
        for number, (kind, name) in enumerate(kinds)
    ]


def request(count: int, **more: Any) -> ImageRequest:
    data: Any = {
        "layers": [f"in/{number}" for number in range(count)],
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["A=é"], "User": "opam"},
        "created": "1970-01-01T00:00:01Z",
        "history": [
            {"created_by": f"made {number}", **({"comment": "c", "title": "lwt.1"} if number == 2 else {})}
            for number in range(count)
        ],
        **more,
    }
    return data


def blob(descriptor: Dict[str, Any]) -> Any:
    """The JSON of a blob, checked against its descriptor."""
    content = Path("blobs", *descriptor["digest"].split(":")).read_bytes()
    assert descriptor["size"] == len(content)
    assert descriptor["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
    return json.loads(content)


def test_layout(layers: List[Layer]) -> None:
    """Index, manifest and config refer to each other by right digests and sizes; layers and diff_ids are in order."""
    assert image.run(request(4, annotations={"a": "b"}, ref_name="latest"), 1) == 0
    assert json.loads(Path("oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(Path("index.json").read_text())
    assert index["schemaVersion"] == 2 and len(index["manifests"]) == 1
    descriptor = index["manifests"][0]
    assert descriptor["platform"] == {"architecture": "amd64", "os": "linux"}
    assert descriptor["annotations"] == {"org.opencontainers.image.ref.name": "latest"}
    manifest = blob(descriptor)
    assert manifest["mediaType"] == descriptor["mediaType"] == spec.MANIFEST_TYPE
    assert manifest["annotations"] == {"a": "b"}
    assert [(one["digest"], one["size"], one["mediaType"]) for one in manifest["layers"]] == [
        (layer.digest, layer.size, layer.media_type) for layer in layers
    ]
    config = blob(manifest["config"])
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    assert config["config"] == {"Env": ["A=é"], "User": "opam"}
    assert (config["architecture"], config["os"], config["created"]) == ("amd64", "linux", "1970-01-01T00:00:01Z")
    created = "1970-01-01T00:00:01Z"
    assert config["history"][1:3] == [
        {"created": created, "created_by": "made 1"},
        {"created": created, "created_by": "made 2", "comment": "c"},
    ]
    assert [one.get("annotations") for one in manifest["layers"]] == [
        None,
        None,
        {"org.opencontainers.image.title": "lwt.1"},
        None,
    ]
    summary = json.loads(Path("image.json").read_text())
    assert summary["layers"] == 4
    assert (
        summary["manifest_digest"] == descriptor["digest"] and summary["config_digest"] == manifest["config"]["digest"]
    )
    assert summary["size"] == sum(layer.size for layer in layers) + manifest["config"]["size"] + descriptor["size"]
    assert len(list(Path("blobs/sha256").iterdir())) == 2  # the layers' blobs are not copied


def test_same_request_same_bytes(layers: List[Layer]) -> None:
    results = set()
    for _ in range(2):
        image.run(request(4), 1)
        results.add(Path("index.json").read_bytes())
    assert len(results) == 1


@pytest.mark.parametrize("how", ["flipped", "truncated", "longer", "absent"])
def test_damaged_blobs(layers: List[Layer], how: str) -> None:
    """A blob that is not what its description says is never part of an image."""
    path = layers[2].blob
    content = path.read_bytes()
    if how == "absent":
        path.unlink()
    else:
        path.write_bytes({"flipped": b"x" + content[1:], "truncated": content[:-1], "longer": content + b"\0"}[how])
    with pytest.raises(ToolError, match="lwt.1"):
        image.run(request(4), 1)
    assert not Path("index.json").exists()


def test_json_is_what_the_specification_says(layers: List[Layer]) -> None:
    """With everything that a config, a manifest and an index can have here, SBOM included."""
    config = {
        "Env": ["A=b"],
        "Entrypoint": ["a"],
        "Cmd": ["b"],
        "User": "opam",
        "WorkingDir": "/",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
        "Labels": {"a": "b"},
    }
    packages = [{"name": "lwt", "version": "1", "opam": 'license: "MIT"', "depends": [], "sources": []}]
    wanted = {"name": "image", "attach": True, "suite": "trixie", "packages": packages, "debs": []}
    image.run(request(4, config=config, annotations={"a": "b"}, ref_name="latest", sbom=wanted), 1)
    for layer in layers:
        shutil.copy(layer.blob, "blobs/sha256")
    assert problems(Path(".")) == []
    index = json.loads(Path("index.json").read_text())
    assert [entry.get("artifactType") for entry in index["manifests"]] == [
        None,
        "application/spdx+json",
        "application/vnd.cyclonedx+json",
    ]
    for entry in index["manifests"][1:]:
        manifest = blob(entry)
        assert manifest["subject"] == {key: index["manifests"][0][key] for key in ("mediaType", "digest", "size")}
        assert blob(manifest["config"]) == {}


def test_the_check_finds_mistakes(layers: List[Layer]) -> None:
    image.run(request(4, config={"Env": ["=b"], "Shell": ["sh"]}, created="yesterday"), 1)
    found = "\n".join(problems(Path(".")))
    for part in ("Env", "Shell", "created", "missing or damaged"):
        assert part in found
