"""manifest: valid OCI JSON around layers."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from pants.engine.fs import EMPTY_DIGEST, FileDigest, FileEntry

from opam_oci.images.image import check_layout
from opam_oci.images.manifest import MANIFEST_TYPE, ImageContent, ImageTexts, SbomContent, write_image
from opam_oci.images.sbom_documents import OpamFacts, components_of
from opam_oci.sandbox.layer import Layer, LayerError, blob_path
from tests.support.layouts import Layout
from tests.support.oci_schema import problems
from tests.unit.conftest import make_tar, member

CREATED = "1970-01-01T00:00:01Z"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def tars() -> List[bytes]:
    return [make_tar([member(f"f{number}", content=b"x")]) for number in range(4)]


def packed(tar: bytes) -> bytes:
    return gzip.compress(tar, mtime=0)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layers() -> "tuple[Layer, ...]":
    kinds = [("base", "trixie"), ("opam-root", "default"), ("package", "lwt"), ("state", "")]
    return tuple(
        Layer(kind, name, "", sha256(tar), sha256(packed(tar)), len(packed(tar)), GZIP, EMPTY_DIGEST, "")
        for (kind, name), tar in zip(kinds, tars())
    )


def content(**more: Any) -> ImageContent:
    history = [{"created_by": f"made {number}"} for number in range(4)]
    history[2] = {"created_by": "made 2", "comment": "c", "title": "lwt.1"}
    values: Dict[str, Any] = {
        "layers": layers(),
        "history": tuple(history),
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["A=é"], "User": "opam"},
        "created": CREATED,
        "annotations": {},
        "ref_name": "latest",
        "sbom": None,
        **more,
    }
    return ImageContent(**values)


def blob(texts: ImageTexts, descriptor: Dict[str, Any]) -> Any:
    """The JSON of a blob, checked against its descriptor."""
    found = texts.layout[blob_path(descriptor["digest"])]
    assert (descriptor["size"], descriptor["digest"]) == (len(found), sha256(found))
    return json.loads(found)


def test_layout() -> None:
    """Index, manifest and config refer to each other by right digests and sizes; layers and diff_ids are in order."""
    texts = write_image(content(annotations={"a": "b"}))
    assert json.loads(texts.layout["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(texts.layout["index.json"])
    assert index["schemaVersion"] == 2 and len(index["manifests"]) == 1
    descriptor = index["manifests"][0]
    assert descriptor["platform"] == {"architecture": "amd64", "os": "linux"}
    assert descriptor["annotations"] == {"org.opencontainers.image.ref.name": "latest"}
    manifest = blob(texts, descriptor)
    assert manifest["mediaType"] == descriptor["mediaType"] == MANIFEST_TYPE
    assert manifest["annotations"] == {"a": "b"}
    assert [(one["digest"], one["size"], one["mediaType"]) for one in manifest["layers"]] == [
        (layer.blob, layer.size, GZIP) for layer in layers()
    ]
    config = blob(texts, manifest["config"])
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer.diff_id for layer in layers()]}
    assert config["config"] == {"Env": ["A=é"], "User": "opam"}
    assert (config["architecture"], config["os"], config["created"]) == ("amd64", "linux", CREATED)
    assert config["history"][1:3] == [
        {"created": CREATED, "created_by": "made 1"},
        {"created": CREATED, "created_by": "made 2", "comment": "c"},
    ]
    titles = [one.get("annotations") for one in manifest["layers"]]
    assert titles == [None, None, {"org.opencontainers.image.title": "lwt.1"}, None]
    assert (texts.manifest, texts.config) == (descriptor["digest"], manifest["config"]["digest"])
    assert len([path for path in texts.layout if path.startswith("blobs/")]) == 2  # the layers' are not in it
    assert texts.documents == {}


def test_same_content_same_bytes() -> None:
    assert write_image(content()) == write_image(content())


def written(texts: ImageTexts, top: Path) -> Path:
    blobs = {blob_path(sha256(data)): data for data in map(packed, tars())}
    for path, data in {**texts.layout, **blobs}.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(data)
    return top


def test_json_is_what_the_specification_says(tmp_path: Path) -> None:
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
    components = components_of([OpamFacts("lwt", "1", ("MIT",), "", (), ())], [], "trixie")
    texts = write_image(
        content(config=config, annotations={"a": "b"}, sbom=SbomContent("image", True, components)),
    )
    assert problems(written(texts, tmp_path)) == []
    index = json.loads(texts.layout["index.json"])
    assert [entry.get("artifactType") for entry in index["manifests"]] == [
        None,
        "application/spdx+json",
        "application/vnd.cyclonedx+json",
    ]
    for entry, name in zip(index["manifests"][1:], ("spdx", "cdx")):
        manifest = blob(texts, entry)
        assert manifest["subject"] == {key: index["manifests"][0][key] for key in ("mediaType", "digest", "size")}
        assert blob(texts, manifest["config"]) == {}
        assert texts.layout[blob_path(manifest["layers"][0]["digest"])] == texts.documents[f"sbom.{name}.json"]
    assert Layout(tmp_path).config["config"] == config


def test_an_sbom_that_is_not_attached() -> None:
    texts = write_image(content(sbom=SbomContent("image", False, ())))
    assert sorted(texts.documents) == ["sbom.cdx.json", "sbom.spdx.json"]
    assert {path: texts.layout[path] for path in texts.layout} == dict(write_image(content()).layout)


def test_the_check_finds_mistakes(tmp_path: Path) -> None:
    texts = write_image(content(config={"Env": ["=b"], "Shell": ["sh"]}, created="yesterday"))
    layout = written(texts, tmp_path)
    (layout / blob_path(layers()[1].blob)).unlink()
    found = "\n".join(problems(layout))
    for part in ("Env", "Shell", "created", "missing or damaged"):
        assert part in found


def test_blobs_that_are_not_what_descriptions_say() -> None:
    """The engine knows files by sha256 and size: another one is never part of an image."""

    def entry(path: str, layer: Layer, size: int = 0) -> FileEntry:
        return FileEntry(path, FileDigest(layer.blob[len("sha256:") :], size or layer.size))

    def entries() -> "dict[str, FileEntry]":
        return {blob_path(layer.blob): entry(blob_path(layer.blob), layer) for layer in layers()}

    check_layout(entries(), layers(), "//:image")
    path, other = blob_path(layers()[2].blob), layers()[1]
    missing = {name: one for name, one in entries().items() if name != path}
    for damaged, says in (
        (missing, "the blob sha256:.* of the layer lwt is missing"),
        ({**entries(), path: entry(path, layers()[2], 7)}, "has 7 bytes, but should have"),
        ({**entries(), path: entry(path, other)}, "is corrupt"),
    ):
        with pytest.raises(LayerError, match=f"//:image: .*{says}"):
            check_layout(damaged, layers(), "//:image")
