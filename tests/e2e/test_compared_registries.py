"""What `oci-diff` asks of a registry: real skopeo, Debian's docker-registry, small images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import pytest

from tests.e2e.conftest import tool
from tests.e2e.test_push import auth_file
from tests.support.registry import Registry
from tests.unit.conftest import member
from tests.unit.test_comparing import BASE, PACKAGE, TYPES, Tar, describe, files, in_layout, in_registry, layout

CHANGED: Tar = [*PACKAGE[:1], member("home/opam/.opam/default/lib/react/react.cma", content=b"x"), *PACKAGE[2:]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fetched(registry: Registry) -> List[str]:
    """The digests of the blobs that were fetched since the last look."""
    return [
        one.path.rpartition("/")[2]
        for one in registry.requests()
        if one.method == "GET" and "/blobs/" in one.path and one.status == 200
    ]


@pytest.mark.parametrize(
    ("compression", "options"),
    [*((name, ["--preserve-digests"]) for name in sorted(TYPES)), ("gzip", ["--format=v2s2"])],
)
def test_only_layers_that_differ_are_fetched(here: Path, compression: str, options: List[str]) -> None:
    a, b = layout(here / "a", [BASE, PACKAGE], compression), layout(here / "b", [BASE, CHANGED], compression)
    with Registry(here / "registry") as registry:
        reference = in_registry(f"docker://{registry.address}/team/x:1")
        tool("skopeo", "copy", "--quiet", "--dest-tls-verify=false", *options, f"oci:{here}/b", reference["source"])
        registry.requests()
        found = describe(here, reference)
        assert fetched(registry) == [found["manifest"]["config"]["digest"]]
        if options == ["--preserve-digests"]:
            assert found["digest"] == describe(here, in_layout(here / "b"))["digest"]
        layers = [
            {**known, "media_type": one["mediaType"], "digest": one["digest"]}
            for known, one in zip(b, found["manifest"]["layers"])
        ]
        assert [one["diff_id"] for one in layers] == found["config"]["rootfs"]["diff_ids"]
        source = f"{reference['source'].rpartition(':')[0]}@{found['digest']}"
        [paths] = files(here, [(a[1], layers[1])], {**reference, "source": source}, [layers[0]])
        assert [(one["path"].rpartition("/")[2], one["package"], one["fields"]) for one in paths] == [
            ("react.cma", "opam react", ["content", "size"])
        ]
        assert layers[1]["digest"] in (blobs := fetched(registry)) and layers[0]["digest"] not in blobs


def test_an_index_in_a_registry(here: Path) -> None:
    layout(here / "a", [BASE])
    path = here / "a/index.json"
    [image] = json.loads(path.read_text())["manifests"]
    del image["annotations"]
    kind = "application/vnd.oci.image.index.v1+json"
    images = [{**image, "platform": {"os": "linux", "architecture": name}} for name in ("amd64", "arm64")]
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": images[:1]})
    with Registry(here / "registry") as registry:
        source = f"docker://{registry.address}/x:1"
        path.write_text(index)
        tool("skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false", f"oci:{here}/a", source)
        assert describe(here, in_registry(source))["digest"] == image["digest"]


def test_a_registry_that_wants_a_password(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout(here / "a", [BASE])
    with Registry(here / "registry", auth=True) as registry:
        reference = in_registry(f"docker://{registry.address}/x:1")
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(here / "none.json"))
        with pytest.raises(AssertionError):
            describe(here, reference)
        said = capsys.readouterr().err
        assert said.startswith("error: oci:x cannot be read: ") and "Log in first: `skopeo login`" in said
        monkeypatch.setenv("REGISTRY_AUTH_FILE", auth_file(here / "auth.json", registry.address)["REGISTRY_AUTH_FILE"])
        tool("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{here}/a", reference["source"])
        assert describe(here, reference)["digest"] == describe(here, in_layout(here / "a"))["digest"]
