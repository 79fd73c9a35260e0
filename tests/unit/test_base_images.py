"""Images of others as bases: what is taken of an index, a manifest and a config, and the one layer that their layers make."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.importing import fetch_image, join_image
from opam_sandbox.importing.image_source import reason
from opam_sandbox.layer.description import read_layer
from opam_sandbox.layer.read_blob import plain_content
from opam_sandbox.layer.read_tar import TarReader
from tests.support.small_images import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, write_blob, write_json_blob
from tests.unit.conftest import Namespaces, make_layer, make_tar, member

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
PLAIN = LAYER_TYPE.replace("+gzip", "")
ONE, TWO = make_tar([member("a", content=b"1")]), make_tar([member("b", content=b"2")])


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def image(layout: Path, tars: Iterable[bytes] = (ONE, TWO), layer_type: str = LAYER_TYPE, **changes: Any) -> str:
    """The digest of a manifest in a layout. changes: of its config, or `manifest`'s."""
    tars = list(tars)
    manifest_changes: Mapping[str, Any] = changes.pop("manifest", {})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        **changes,
    }
    packed = [tar if layer_type == PLAIN else gzip.compress(tar, mtime=0) for tar in tars]
    manifest = {
        "schemaVersion": 2,
        "config": write_json_blob(layout, config, CONFIG_TYPE),
        "layers": [write_blob(layout, one, layer_type) for one in packed],
        **manifest_changes,
    }
    return str(write_json_blob(layout, manifest, MANIFEST_TYPE)["digest"])


def index(layout: Path, manifests: Any) -> str:
    content = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
    return str(write_json_blob(layout, content, INDEX_TYPE)["digest"])


def fetch(layout: Path, digest: str) -> Dict[str, Any]:
    request: Any = {
        "source": "layout",
        "place": os.fspath(layout),
        "digest": digest,
        "architecture": "amd64",
        "name": "b",
        "tls_verify": True,
        "cert_dir": "",
        "handover": "",
    }
    assert fetch_image.run(request, 1) == 0
    result: Dict[str, Any] = json.loads(Path("image.json").read_text())
    return result


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "process").mkdir()
    monkeypatch.chdir(tmp_path / "process")
    return tmp_path / "layout"


# -- fetch-image


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (LAYER_TYPE, LAYER_TYPE),
        (PLAIN, PLAIN),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", LAYER_TYPE),
    ],
)
def test_layers_are_taken_as_they_are(layout: Path, given: str, taken: str) -> None:
    digest = image(layout, layer_type=given)
    assert fetch(layout, digest)["manifest"] == digest
    for number, tar in enumerate((ONE, TWO)):
        layer = read_layer(Path("layers", str(number)))
        assert (layer.kind, layer.diff_id, layer.media_type) == ("base", digest_of(tar), taken)
        assert digest_of(layer.blob.read_bytes()) == layer.digest


def test_of_an_index_the_manifest_for_the_machine(layout: Path) -> None:
    other, mine = image(layout, [ONE], architecture="arm64"), image(layout, [TWO])
    entries: List[Dict[str, Any]] = [
        {"digest": digest_of(b""), "platform": {"os": "unknown", "architecture": "unknown"}}
    ]
    entries += [
        {"digest": digest, "platform": {"os": "linux", "architecture": name}}
        for digest, name in ((other, "arm64"), (mine, "amd64"))
    ]
    assert fetch(layout, index(layout, entries)) == {**json.loads(Path("image.json").read_text()), "manifest": mine}
    with pytest.raises(ToolError, match=r"has no image for linux/amd64; it has linux/arm64$"):
        fetch(layout, index(layout, entries[:-1]))


@pytest.mark.parametrize(
    ("variants", "taken"),
    [
        (["v3", ""], ""),
        (["v3", "v1"], "v1"),
        (["v2", "v3"], None),
        (["v3"], None),
        (["", ""], None),
    ],
)
def test_of_variants_the_one_that_each_machine_runs(layout: Path, variants: List[str], taken: "str | None") -> None:
    """What is for newer processors only, ends on others with a signal."""
    entries: List[Dict[str, Any]] = [
        {
            "digest": image(layout, [make_tar([member(str(number), content=b"")])]),
            "platform": {"os": "linux", "architecture": "amd64", **({"variant": variant} if variant else {})},
        }
        for number, variant in enumerate(variants)
    ]
    if taken is None:
        with pytest.raises(ToolError, match=r"no variant is said, or several. Take the digest .* meant: sha256:"):
            fetch(layout, index(layout, entries))
    else:
        assert fetch(layout, index(layout, entries))["manifest"] == entries[variants.index(taken)]["digest"]


def test_no_password_is_shown() -> None:
    """Of a proxy, with its address or alone."""
    env = {"HTTPS_PROXY": "http://carol:correct%20horse@127.0.0.1:1", "PATH": "/usr/bin"}
    text = f'level=fatal msg="pinging: proxy {env["HTTPS_PROXY"]} refused \\"correct horse\\""\n'
    assert reason(text, env) == 'pinging: proxy http://127.0.0.1:1 refused "***"'
    assert reason("\n", env) == "skopeo ended without a message"


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="no skopeo (apt-get install skopeo)")
def test_a_registry_that_is_not_there(layout: Path) -> None:
    """The error names the image and what skopeo says, in one line; nothing stays behind."""
    Path("handover.json").write_text('{"env": {}}')
    request: Any = {
        "source": "registry",
        "place": "registry.invalid/team/base",
        "digest": digest_of(b""),
        "architecture": "amd64",
        "name": "b",
        "tls_verify": True,
        "cert_dir": "",
        "handover": os.path.abspath("handover.json"),
    }
    with pytest.raises(ToolError) as raised:
        fetch_image.run(request, 1)
    said, hint = str(raised.value).split("\n")
    assert said.startswith(f"registry.invalid/team/base@{digest_of(b'')} cannot be fetched: ")
    assert "level=" not in said and "name a layout" in hint
    assert os.listdir() == ["handover.json"]


def test_addresses_that_let_everybody_in_are_not_shown() -> None:
    text = 'time="x" level=fatal msg="reading blob: Get \\"https://store.example.org/a/b?X-Sig=secret&y=1\\": dial tcp: refused"'
    found = reason(text, {})
    assert found == 'reading blob: Get "https://store.example.org/a/b?...": dial tcp: refused'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "arm64"}, "config is for linux/arm64, but the base is for linux/amd64"),
        ({"os": "windows"}, "config is for windows/amd64"),
        ({"rootfs": {"diff_ids": []}}, "does not list the 2 layers"),
        ({"rootfs": {"diff_ids": ["../../x", "y"]}}, "a diff_id: '../../x' is not a sha256 digest"),
        ({"manifest": {"schemaVersion": 1}}, "no manifest of an image"),
        ({"manifest": {"layers": None}}, "no manifest of an image"),
        ({"manifest": {"config": None}}, "its config is no descriptor"),
        ({"manifest": {"layers": [{"digest": digest_of(b""), "size": -1}]}}, "its size is -1"),
        ({"layer_type": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, "no layer that a base can have"),
    ],
)
def test_what_is_no_base(layout: Path, changes: Dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=message):
        fetch(layout, image(layout, **changes))


def test_what_is_not_what_its_digest_says(layout: Path) -> None:
    digest = image(layout)
    manifest = json.loads((layout / "blobs/sha256" / digest[7:]).read_text())
    for wanted, message in (
        (manifest["layers"][1]["digest"], "the blob of layer 1 is damaged"),
        (manifest["config"]["digest"], "config is sha256:[0-9a-f]*, but should be"),
        (digest, "but should be"),
    ):
        path = layout / "blobs/sha256" / wanted[7:]
        content = path.read_bytes()
        path.write_bytes(content.replace(b"{", b"{ ", 1) if content[:1] == b"{" else content[:-1] + b"?")
        with pytest.raises(ToolError, match=message):
            fetch(layout, digest)
        path.write_bytes(content)
        shutil.rmtree("layers", ignore_errors=True)
    (layout / "blobs/sha256" / manifest["layers"][1]["digest"][7:]).unlink()
    with pytest.raises(ToolError, match="No such file"):
        fetch(layout, digest)
    with pytest.raises(ToolError, match="there is no such directory, which should be an OCI image layout"):
        fetch(layout / "nowhere", digest)


def test_a_layout_leads_nowhere_else(layout: Path, tmp_path: Path) -> None:
    digest = image(layout)
    path = layout / "blobs/sha256" / digest[7:]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToolError, match="link"):
        fetch(layout, digest)


# -- join-image


def layer(number: int, tar: bytes, packed: bytes = b"", media_type: str = "") -> None:
    """A layer directory in/NUMBER; packed: its blob where that is not gzip."""
    made = make_layer(Path(f"in/{number}"), tar, "base", "b")
    if packed:
        path = made.directory / "layer.json"
        fields = {**json.loads(path.read_text()), "digest": digest_of(packed), "size": len(packed)}
        path.write_text(json.dumps({**fields, "media_type": media_type}))
        (made.directory / "blobs/sha256" / digest_of(packed)[7:]).write_bytes(packed)


def root_tar(root: Path) -> bytes:
    members = []
    for path in sorted(root.rglob("*")):
        name = os.fspath(path.relative_to(root))
        if path.is_symlink():
            members.append(member(name, b"2", linkname=os.readlink(path)))
        elif path.is_dir():
            members.append(member(name, b"5"))
        else:
            members.append(member(name, content=path.read_bytes(), mode=0o755))
    return make_tar(members)


def join(count: int, tiny_root: Path) -> Dict[str, Any]:
    """Join in/0 ...; returns (name -> entry) of what came out."""
    layer(count, root_tar(tiny_root))
    layers = [f"in/{number}" for number in range(count)]
    request: Any = {"store": "store", "name": "b", "version": "", "layers": layers, "packer": f"in/{count}"}
    assert join_image.run(request, 1) == 0
    joined = read_layer(Path("."))
    assert joined.kind == "base"
    with plain_content(joined) as content:
        return {os.fsdecode(one.name): one for one in TarReader(content, "joined")}


def test_an_empty_base(namespaces: Namespaces, tiny_root: Path, layout: Path) -> None:
    assert sorted(join(0, tiny_root)) == ["dev", "proc", "tmp"]


def test_what_layers_show_together(namespaces: Namespaces, tiny_root: Path, layout: Path) -> None:
    """Whiteouts are applied, compressions read, owners kept."""
    passwd = member("etc/passwd", content=b"www:x:33:33::/:/bin/sh\n")
    one = make_tar([member("old", content=b"1"), member("d/x", content=b"1"), passwd, member("tmp", b"5", mode=0o700)])
    two = make_tar([member(".wh.old"), member("d/.wh..wh..opq"), member("d/y", content=b"2", uid=33, gid=0)])
    three = make_tar([member("z", content=b"3")])
    zstd = subprocess.run(["zstd", "-q", "-c"], input=two, stdout=subprocess.PIPE, check=True).stdout
    layer(0, one)
    layer(1, two, zstd, PLAIN + "+zstd")
    layer(2, three, three, PLAIN)
    found = join(3, tiny_root)
    assert sorted(found) == ["d/y", "dev", "etc/passwd", "proc", "tmp", "z"]
    assert found["tmp"].mode == 0o700 and (found["d/y"].uid, found["d/y"].gid) == (33, 0)
    facts = read_layer(Path(".")).dpkg
    assert (facts["owners"], facts["users"]) == ({"d/y": "33:0"}, {"33": "www"})


def test_a_tar_without_an_end(namespaces: Namespaces, tiny_root: Path, layout: Path) -> None:
    """Some programs write none, and engines read such a layer: an empty one, too."""
    layer(0, make_tar([member("a", content=b"1"), member("b")])[: 3 * 512])
    layer(1, make_tar([member(".wh.a")])[:512])
    layer(2, b"")
    assert sorted(join(3, tiny_root)) == ["b", "dev", "proc", "tmp"]


def refusal(capfd: pytest.CaptureFixture[str]) -> str:
    """Why the layer in/0 is not joined, with the base in/1."""
    request: Any = {"store": "store", "name": "b", "version": "", "layers": ["in/0"], "packer": "in/1"}
    try:
        assert join_image.run(request, 1) != 0
        return capfd.readouterr().err
    except ToolError as error:
        return str(error)


@pytest.mark.parametrize(
    ("tar", "message"),
    [
        (make_tar([member("a", content=b"1" * 600)])[: 2 * 512], "it ends within a file"),
        (make_tar([member("../x", content=b"")]), "x"),
        (make_tar([member("null", b"3", devmajor=0, devminor=0)]), "overlayfs takes for a deleted file"),
        (make_tar([member("a", b"1", linkname="nowhere")]), "names no file of it"),
        (ONE[:700], "without an end marker"),
    ],
    ids=["file", "above", "device", "link", "cut"],
)
def test_hostile_layers(
    root_user: None, tiny_root: Path, layout: Path, tar: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    layer(0, tar)
    layer(1, root_tar(tiny_root))
    said = refusal(capfd)
    assert "layer 0 of base b" in said and message in said
    assert not Path("layer.json").exists()


def test_a_tar_that_the_config_does_not_name(
    root_user: None, tiny_root: Path, layout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layer(0, ONE, gzip.compress(TWO), LAYER_TYPE)
    layer(1, root_tar(tiny_root))
    said = refusal(capfd)
    assert f"its tar is {digest_of(TWO)}, but the image's config says {digest_of(ONE)}" in said
