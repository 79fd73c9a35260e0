"""Comparing images: two tars path by path, whose files they are, and images of layouts; tests/e2e has those of registries."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import random
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opam_sandbox.comparing import cli, tars
from opam_sandbox.errors import ToolError
from tests.unit.conftest import make_tar, member

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TYPES = {
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "none": "application/vnd.oci.image.layer.v1.tar",
}
Tar = List[Tuple[tarfile.TarInfo, bytes]]
BASE: Tar = [
    member("etc", tarfile.DIRTYPE),
    member("etc/passwd", content=b"root"),
    member("usr/lib/libz.so", content=b"zlib"),
    member("var/lib/dpkg/info/zlib1g:amd64.list", content=b"/.\n/usr\n/usr/lib/libz.so\n"),
]
SWITCH = "home/opam/.opam/default"
CHANGES = b'opam-version: "2.0"\nadded: [ "lib/react/react.cma" {"F:md5=00"} ]\n'
PACKAGE: Tar = [
    member(f"{SWITCH}/.opam-switch/install/react.changes", content=CHANGES),
    member(f"{SWITCH}/lib/react/react.cma", content=b"0123456789" * 1000),
    member(f"{SWITCH}/lib/react/link", tarfile.SYMTYPE, linkname="react.cma"),
]


def compared(first: Tar, second: Tar) -> tars.Comparison:
    return tars.compare(io.BytesIO(make_tar(first)), io.BytesIO(make_tar(second)), ("one", "two"))


def put(path: Path, data: bytes, media_type: str) -> Dict[str, Any]:
    """The descriptor of a blob in a layout."""
    digest = hashlib.sha256(data).hexdigest()
    (path / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (path / "blobs/sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def text(data: object) -> bytes:
    return json.dumps(data, sort_keys=True).encode()


def layout(path: Path, layers: Sequence[Tar], compression: str = "gzip", tag: str = "latest") -> List[Dict[str, str]]:
    """Adds an image to a layout. Returns its layers, as requests have them."""
    pack = {
        "gzip": lambda data: gzip.compress(data, mtime=0),
        "zstd": lambda data: subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout,
        "none": lambda data: data,
    }[compression]
    plain = [make_tar(layer) for layer in layers]
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in plain]
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    blobs = [put(path, pack(data), TYPES[compression]) for data in plain]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(path, text(config), "application/vnd.oci.image.config.v1+json"),
        "layers": blobs,
    }
    entry = {**put(path, text(manifest), MANIFEST), "annotations": {"org.opencontainers.image.ref.name": tag}}
    index = path / "index.json"
    entries = json.loads(index.read_text())["manifests"] if index.exists() else []
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [*entries, entry]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return [
        {"name": f"layer {number}", "media_type": blob["mediaType"], "digest": blob["digest"], "diff_id": diff_id}
        for number, (blob, diff_id) in enumerate(zip(blobs, diff_ids))
    ]


def in_layout(path: Path, wanted: str = "") -> Dict[str, Any]:
    return {"kind": "layout", "path": str(path), "wanted": wanted}


def in_registry(source: str) -> Dict[str, Any]:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    return {"kind": "registry", "source": source, "skopeo": skopeo, "tls_verify": False, "cert_dir": ""}


def asked(here: Path, command: str, request: Dict[str, Any]) -> Any:
    """What a command writes."""
    (here / "request.json").write_text(json.dumps({**request, "output": "found.json"}))
    assert cli.main([command, "request.json"]) == 0
    return json.loads((here / "found.json").read_text())


def describe(here: Path, reference: Dict[str, Any], architecture: str = "amd64") -> Any:
    values = {"name": "oci:x", "reference": reference, "os": "linux", "architecture": architecture}
    return asked(here, "describe", values)


def files(
    here: Path,
    pairs: Iterable[Tuple[Optional[Dict[str, str]], Optional[Dict[str, str]]]],
    second: Optional[Dict[str, Any]] = None,
    others: Sequence[Dict[str, str]] = (),
) -> Any:
    """The paths that `compare-files` lists of each pair of layers."""
    values = {
        "first": {"name": "A", "reference": in_layout(here / "a"), "others": []},
        "second": {"name": "B", "reference": second or in_layout(here / "b"), "others": list(others)},
        "layers": [{"first": [one] if one else [], "second": [two] if two else []} for one, two in pairs],
    }
    return [layer["paths"] for layer in asked(here, "compare-files", values)["layers"]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_that_two_entries_differ_in() -> None:
    first = [
        member("content", content=b"aaa"),
        member("mode", mode=0o4755),
        member("owner", uid=1, gid=2),
        member("time"),
        member("link", tarfile.SYMTYPE, linkname="a"),
        member("hard", tarfile.LNKTYPE, linkname="content"),
        member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("kind"),
        member("gone"),
        member("attributes", pax_headers={"SCHILY.xattr.user.a": "1"}),
        member(".wh.hidden"),
        member("same", content=b"x" * 3000),
    ]
    second = [
        member("attributes", pax_headers={"SCHILY.xattr.user.a": "2"}),
        member("content", content=b"abaa"),
        member("mode", mode=0o755),
        member("owner", uid=3, gid=2),
        member("time", mtime=7),
        member("link", tarfile.SYMTYPE, linkname="b"),
        member("hard", tarfile.LNKTYPE, linkname="mode"),
        member("null", tarfile.CHRTYPE, devmajor=1, devminor=5),
        member("kind", tarfile.DIRTYPE, mode=0o644),
        member("new\udcff"),
        member("same", content=b"x" * 3000),
    ]
    found = compared(first, second)
    sums = [hashlib.sha256(text).hexdigest() for text in (b"aaa", b"abaa", b"")]
    by_path = {one.path: one for one in found.differences}
    assert sorted(by_path) == [one.path for one in found.differences]
    assert by_path[b"content"].fields() == {"size": (3, 4), "content": (sums[0], sums[1])}
    assert by_path[b"mode"].fields() == {"mode": ("4755", "0755")}
    assert by_path[b"owner"].fields() == {"uid": (1, 3)}
    assert by_path[b"time"].fields() == {"time": (1, 7)}
    assert by_path[b"link"].fields() == {"target": ("a", "b")}
    assert by_path[b"hard"].fields() == {"target": ("content", "mode")}
    assert by_path[b"null"].fields() == {"device": ("1:3", "1:5")}
    assert by_path[b"kind"].fields() == {"kind": ("file", "directory"), "content": (sums[2], "")}
    assert list(by_path[b"attributes"].fields()) == ["attributes"]
    assert by_path[b"gone"].second is None and by_path[b"new\xff"].first is None
    hidden = by_path[b".wh.hidden"].first
    assert hidden is not None and hidden.kind == "whiteout"
    assert b"same" not in by_path
    assert found.reordered and found.entries == (12, 11)


def test_only_the_order() -> None:
    one, two, three = member("a"), member("b"), member("c")
    assert compared([one, two, three], [one, two, three]) == tars.Comparison([], False, (3, 3))
    assert compared([one, two, three], [three, one, two]) == tars.Comparison([], True, (3, 3))
    # What only one of them has is no other order.
    found = compared([member("x"), one, two], [one, member("y"), member("z"), two])
    assert not found.reordered and [one.path for one in found.differences] == [b"x", b"y", b"z"]


def test_a_path_that_stands_twice() -> None:
    """Readers take the last one: that there are two is a difference."""
    found = compared([member("a", content=b"1"), member("a", content=b"2")], [member("a", content=b"1")])
    assert [(one.path, one.second) for one in found.differences] == [(b"a", None)]


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.randoms(use_true_random=False), st.data())
def test_against_tables(names: List[str], shuffle: random.Random, data: st.DataObject) -> None:
    first = {name: data.draw(st.binary(max_size=3)) for name in names}
    second = {name: data.draw(st.binary(max_size=3)) for name in data.draw(st.lists(st.sampled_from("abcdefgh")))}
    orders = list(first), list(second)
    for order in orders:
        shuffle.shuffle(order)
    found = compared(
        [member(name, content=first[name]) for name in orders[0]],
        [member(name, content=second[name]) for name in orders[1]],
    )
    wanted = {name for name in {*first, *second} if first.get(name) != second.get(name)}
    assert [one.path.decode() for one in found.differences] == sorted(wanted)
    common = [[name for name in order if name in first and name in second] for order in orders]
    assert found.reordered == (common[0] != common[1])


@pytest.mark.parametrize(
    "bad", [b"", b"x" * 512, make_tar([member("a")])[:600], make_tar([member("../a")]), make_tar([]) + b"x" * 512]
)
def test_hostile_tars(bad: bytes) -> None:
    good = make_tar([member("a", content=b"abc")])
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(ToolError, match="one|two"):
            tars.compare(io.BytesIO(pair[0]), io.BytesIO(pair[1]), ("one", "two"))


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_MOST_HELD", 50)
    many = [member(f"f{number}") for number in range(1000)]
    assert compared(many, many).differences == []
    assert len(compared(many, many[20:]).differences) == 20
    with pytest.raises(ToolError, match="one and two differ in more than 50 paths"):
        compared(many, [member(f"g{number}") for number in range(1000)])


@pytest.mark.parametrize("compression", sorted(TYPES))
def test_one_file_of_a_package(here: Path, compression: str) -> None:
    changed = [*PACKAGE[:1], member(f"{SWITCH}/lib/react/react.cma", content=b"XX", mode=0o755), *PACKAGE[2:]]
    a = layout(here / "a", [BASE, PACKAGE], compression)
    b = layout(here / "b", [BASE, changed], compression)
    [paths] = files(here, [(a[1], b[1])])
    [path] = paths
    sums = [hashlib.sha256(data).hexdigest() for data in (b"0123456789" * 1000, b"XX")]
    assert (path["path"], path["package"]) == (f"/{SWITCH}/lib/react/react.cma", "opam react")
    assert path["fields"] == ["content", "mode", "size"]
    assert [path[side]["content"] for side in ("before", "after")] == sums
    assert [path[side]["size"] for side in ("before", "after")] == [10000, 2]
    assert [path[side]["mode"] for side in ("before", "after")] == ["0644", "0755"]


def test_the_same_content_in_another_compression(here: Path) -> None:
    a, b = layout(here / "a", [BASE]), layout(here / "b", [BASE], "zstd")
    assert files(here, [(a[0], b[0])]) == [[]]


def test_a_file_of_a_deb_is_named_by_the_list_of_dpkg(here: Path) -> None:
    base = [*BASE[:2], member("usr/lib/libz.so", content=b"zlib2"), *BASE[3:]]
    a, b = layout(here / "a", [BASE]), layout(here / "b", [base])
    [[path]] = files(here, [(a[0], b[0])])
    assert (path["path"], path["package"], path["fields"]) == ("/usr/lib/libz.so", "dpkg zlib1g", ["content", "size"])


def test_what_opam_keeps_of_a_package_is_named_by_its_path(here: Path) -> None:
    own = ["install/react.install", "install/react.changes", "config/react.config", "packages/react.1.2.2/opam"]
    repository = ["packages/react/react.1.2.2/opam", "packages/react/react.1.2.2/files/x.patch"]
    others = ["packages/react/react.1.2.2/README", "packages/react/topkg.1/opam", ".opam-switch/switch-state"]
    names = [*(f"{SWITCH}/.opam-switch/{one}" for one in own), *(f"home/opam/repo/{one}" for one in repository)]
    a = layout(here / "a", [[member(one) for one in (*names, *others)]])
    [paths] = files(here, [(a[0], None)])
    owned = {one["path"][1:]: one["package"] for one in paths}
    assert owned == {**dict.fromkeys(names, "opam react"), **dict.fromkeys(others, "")}


def test_a_layer_that_only_one_image_has(here: Path) -> None:
    """All of its paths, but not the directories above them."""
    a, b = layout(here / "a", [BASE]), layout(here / "b", [BASE, PACKAGE])
    [paths] = files(here, [(None, b[1])])
    assert [path["path"].rpartition("/")[2] for path in paths] == ["react.changes", "link", "react.cma"]
    assert all(
        path["before"] is None and path["package"] == "opam react" for path in paths if "link" not in path["path"]
    )
    [gone] = files(here, [(a[0], None)])
    assert "/etc" not in [path["path"] for path in gone] and len(gone) == 3
    assert all(path["after"] is None for path in gone)


def test_what_moved_from_layer_to_layer_is_no_difference(here: Path) -> None:
    """As when packages share a layer that had layers of their own."""
    x, y, z = (member(name, content=name.encode()) for name in "xyz")
    a = layout(here / "a", [[x], [y]])
    b = layout(here / "b", [[x, member("y", content=b"new"), z]])
    lone = files(here, [(a[0], None), (a[1], None), (None, b[0])])
    assert [[path["path"] for path in paths] for paths in lone] == [[], [], ["/y", "/z"]]
    assert lone[2][0]["before"]["size"] == 1 and lone[2][0]["after"]["size"] == 3 and lone[2][1]["before"] is None


def test_hostile_names_and_blobs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = layout(here / "a", [[member("x\x1b[2J\udcff")]])
    b = layout(here / "b", [[]])
    [[path]] = files(here, [(a[0], b[0])])
    assert path["path"] == "/x\x1b[2J\udcff"

    def fails(says: str, layer: Dict[str, str]) -> None:
        with pytest.raises(AssertionError):
            files(here, [(layer, b[0])])
        error = capsys.readouterr().err
        assert error.startswith("error: ") and says in error and "Traceback" not in error

    fails("A: layer layer 0 is damaged: the sha256 of its content", {**a[0], "diff_id": f"sha256:{'0' * 64}"})
    fails("is 'application/x', which is not read", {**a[0], "media_type": "application/x"})
    fails("is damaged", {**a[0], "media_type": TYPES["none"], "diff_id": f"sha256:{'0' * 64}"})
    blob = here / "a/blobs/sha256" / a[0]["digest"][7:]
    blob.write_bytes(b"x" * 100)
    fails("A: layer layer 0: its blob", a[0])
    fails("its archive is damaged", {**a[0], "media_type": TYPES["zstd"]})
    blob.unlink()
    fails("No such file", a[0])


def test_describe(here: Path) -> None:
    layers = layout(here / "a", [BASE])
    layout(here / "a", [BASE, PACKAGE], tag="hello:1.0")
    digests = [one["digest"] for one in json.loads((here / "a/index.json").read_text())["manifests"]]
    # Layers are not read.
    for layer in layers:
        (here / "a/blobs/sha256" / layer["digest"][7:]).unlink()
    for wanted, digest in (("latest", digests[0]), ("hello:1.0", digests[1]), (digests[1], digests[1])):
        found = describe(here, in_layout(here / "a", wanted))
        assert found["digest"] == digest
        assert (
            len(found["manifest"]["layers"]) == len(found["config"]["rootfs"]["diff_ids"]) == 1 + digests.index(digest)
        )


def test_an_index_of_several_platforms(here: Path) -> None:
    layout(here / "a", [BASE])
    [image] = json.loads((here / "a/index.json").read_text())["manifests"]
    del image["annotations"]
    kind = "application/vnd.oci.image.index.v1+json"
    images = [{**image, "platform": {"os": "linux", "architecture": name}} for name in ("amd64", "arm64")]
    inner = put(here / "a", text({"schemaVersion": 2, "mediaType": kind, "manifests": images}), kind)
    (here / "a/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [inner]}))
    assert describe(here, in_layout(here / "a"))["digest"] == image["digest"]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("", "oci:x: the layout {a} has 2 images: add `:TAG`; it has latest, two"),
        ("three", "oci:x: the layout {a} has 0 images with the name 'three'; it has latest, two"),
    ],
)
def test_no_such_image(here: Path, capsys: pytest.CaptureFixture[str], wanted: str, says: str) -> None:
    layout(here / "a", [BASE])
    layout(here / "a", [PACKAGE], tag="two")
    with pytest.raises(AssertionError):
        describe(here, in_layout(here / "a", wanted))
    assert says.format(a=here / "a") in capsys.readouterr().err


def test_no_layout(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(says: str) -> None:
        with pytest.raises(AssertionError):
            describe(here, in_layout(here / "a"))
        error = capsys.readouterr().err
        assert says in error and "Traceback" not in error
        assert not (here / "found.json").exists()

    fails(f"oci:x: there is no directory {here / 'a'}")
    layout(here / "a", [BASE])
    [image] = json.loads((here / "a/index.json").read_text())["manifests"]
    blob = here / "a/blobs/sha256" / image["digest"][7:]
    good = blob.read_bytes()
    blob.write_bytes(good + b" ")
    fails("is damaged")
    blob.unlink()
    fails("No such file")
    (here / "a/index.json").write_text("{}")
    fails("it has no list `manifests`")


def test_a_registry_that_does_not_answer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = in_registry("docker://127.0.0.1:9/x:1")
    with pytest.raises(AssertionError):
        describe(here, reference)
    assert "error: oci:x cannot be read: " in capsys.readouterr().err
    with pytest.raises(AssertionError):
        describe(here, {**reference, "skopeo": "/nowhere/skopeo"})
    assert "error: /nowhere/skopeo does not start: No such file" in capsys.readouterr().err


# Statements about an image

STATEMENT = "application/vnd.in-toto+json"
REPOSITORY = "/v2/team/app"


def about(image: Dict[str, Any], blob: Dict[str, Any], kind: str = STATEMENT) -> bytes:
    """A manifest that attaches a blob to an image."""
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{'0' * 64}", "size": 2}
    values = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [blob], "subject": image}
    return text({**values, "artifactType": kind})


def described(data: bytes, media_type: str) -> Dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def statements(here: Path, reference: Dict[str, Any], image: str) -> List[str]:
    values = {"name": "oci:x", "reference": reference, "image": image}
    return [one["text"] for one in asked(here, "statements", values)["statements"]]


def test_statements_of_a_layout(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout(here / "a", [BASE])
    path = here / "a/index.json"
    index = json.loads(path.read_text())
    [image] = index["manifests"]
    other = {**image, "digest": f"sha256:{'1' * 64}"}
    mine = put(here / "a", b'{"mine": 1}', STATEMENT)
    entries = [
        put(here / "a", about(image, mine), MANIFEST),
        put(here / "a", about(image, put(here / "a", b"sbom", "x"), "application/spdx+json"), MANIFEST),
        put(here / "a", about(other, put(here / "a", b'{"other": 1}', STATEMENT)), MANIFEST),
    ]
    path.write_text(text({**index, "manifests": [image, *entries]}).decode())
    assert statements(here, in_layout(here / "a"), image["digest"]) == ['{"mine": 1}']
    assert statements(here, in_layout(here / "a"), f"sha256:{'2' * 64}") == []
    blob = here / "a/blobs/sha256" / mine["digest"][7:]
    for content, says in ((b'{"mine": 2}', "it is damaged"), (None, "cannot be read: No such file")):
        blob.unlink()
        if content is not None:
            blob.write_bytes(content)
        values = {"name": "oci:x", "reference": in_layout(here / "a"), "image": image["digest"], "output": "o"}
        (here / "request.json").write_text(json.dumps(values))
        assert cli.main(["statements", "request.json"]) == 1
        assert says in capsys.readouterr().err
        blob.write_bytes(b"")


@pytest.mark.parametrize("lists", [True, False])
def test_statements_of_a_registry(here: Path, capsys: pytest.CaptureFixture[str], lists: bool) -> None:
    """By the registry's own list, or by that under a tag, whatever else somebody put there."""
    image = described(b"image", MANIFEST)
    document = b'{"mine": 1}'
    mine = about(image, described(document, STATEMENT))
    # In the list, and about another image.
    other = about(described(b"else", MANIFEST), described(b'{"other": 1}', STATEMENT))
    entries = [{**described(one, MANIFEST), "artifactType": STATEMENT} for one in (mine, other)]
    entries.append({**described(b"sbom", MANIFEST), "artifactType": "application/spdx+json"})
    listed = text({"schemaVersion": 2, "manifests": entries})
    tag = str(image["digest"]).replace(":", "-")
    files = {
        f"{REPOSITORY}/referrers/{image['digest']}" if lists else f"{REPOSITORY}/manifests/{tag}": listed,
        **{f"{REPOSITORY}/manifests/{described(one, '')['digest']}": one for one in (mine, other)},
        f"{REPOSITORY}/blobs/{described(document, '')['digest']}": document,
        "/v2/": b"{}",
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        host = f"127.0.0.1:{server.server_address[1]}"
        reference = {"kind": "registry", "skopeo": "/none", "tls_verify": False, "cert_dir": ""}
        for source in (f"docker://{host}/team/app:1", f"docker://{host}/team/app@{image['digest']}"):
            assert statements(here, {**reference, "source": source}, image["digest"]) == ['{"mine": 1}']
        assert statements(here, {**reference, "source": source}, f"sha256:{'2' * 64}") == []
        # Another one than it should be.
        files[f"{REPOSITORY}/blobs/{described(document, '')['digest']}"] = b"{}"
        values = {"name": "x", "reference": {**reference, "source": source}, "image": image["digest"], "output": "o"}
        (here / "request.json").write_text(json.dumps(values))
        assert cli.main(["statements", "request.json"]) == 1
        assert "the registry gives sha256:" in capsys.readouterr().err
        server.shutdown()
