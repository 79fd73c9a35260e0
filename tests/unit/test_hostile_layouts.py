"""Layouts that are damaged, or made to do harm: each command that reads one says what is wrong, and touches nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import socket
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.store import Store
from opam_sandbox.oci.check_layout import problems
from opam_sandbox.oci.shared_layout import SharedLayout
from opam_sandbox.publishing import cli
from opam_sandbox.running.image_config import ImageLayer, find_user, read_image
from opam_sandbox.strict_json import LARGEST
from tests.support.small_images import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, layer_tar, write_blob, write_index

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
Json = Dict[str, Any]
Change = Callable[[Json], object]
Capfd = "pytest.CaptureFixture[str]"


def nothing(_: Json) -> None:
    pass


def write_object(layout: Path, data: Any, media_type: str) -> Json:
    return write_blob(layout, json.dumps(data).encode(), media_type)


def make(layout: Path, index: Change = nothing, manifest: Change = nothing, config: Change = nothing) -> Path:
    """An image whose JSON was changed before it got its digests: so these are right."""
    tars = [layer_tar({name: name.encode() * 300}) for name in ("one", "two")]
    description: Json = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
    }
    config(description)
    data: Json = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": write_object(layout, description, CONFIG_TYPE),
        "layers": [write_blob(layout, gzip.compress(tar, 1, mtime=0), LAYER_TYPE) for tar in tars],
    }
    manifest(data)
    entry = write_object(layout, data, MANIFEST_TYPE)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "a"}
    top = {"schemaVersion": 2, "manifests": [entry]}
    index(top)
    write_index(layout, [])
    (layout / "index.json").write_text(json.dumps(top))
    return layout


def entry_of(layout: Path) -> Json:
    entry: Json = json.loads((layout / "index.json").read_text())["manifests"][0]
    return entry


def blob(layout: Path, which: str) -> Path:
    """The file of the manifest, the config or the first layer."""
    path = layout / "blobs" / "sha256"
    manifest = path / entry_of(layout)["digest"][7:]
    if which == "manifest":
        return manifest
    data = json.loads(manifest.read_text())
    return path / (data["config"] if which == "config" else data["layers"][0])["digest"][7:]


def entry(**fields: Any) -> Callable[[Path], Path]:
    """A change of the index's entry; a field that is None is taken away."""

    def change(index: Json) -> None:
        for key, value in fields.items():
            index["manifests"][0][key] = value
            if value is None:
                del index["manifests"][0][key]

    return lambda layout: make(layout, index=change)


def in_index(key: str, value: Any) -> Callable[[Path], Path]:
    return lambda layout: make(layout, index=lambda data: data.update({key: value}))


def in_manifest(key: str, value: Any) -> Callable[[Path], Path]:
    return lambda layout: make(layout, manifest=lambda data: data.update({key: value}))


def in_layer(key: str, value: Any) -> Callable[[Path], Path]:
    return lambda layout: make(layout, manifest=lambda data: data["layers"][0].update({key: value}))


def in_config(key: str, value: Any) -> Callable[[Path], Path]:
    return lambda layout: make(layout, config=lambda data: data.update({key: value}))


def in_run(key: str, value: Any) -> Callable[[Path], Path]:
    return lambda layout: make(layout, config=lambda data: data["config"].update({key: value}))


def in_rootfs(key: str, value: Any) -> Callable[[Path], Path]:
    return lambda layout: make(layout, config=lambda data: data["rootfs"].update({key: value}))


def text(name: str, content: bytes) -> Callable[[Path], Path]:
    """A file of the layout with other bytes."""

    def change(layout: Path) -> Path:
        make(layout)
        (layout / name).write_bytes(content)
        return layout

    return change


def instead(which: str, put: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Something else in place of a file (or a blob) of the layout."""

    def change(layout: Path) -> Path:
        make(layout)
        path = layout / which if which in ("index.json", "oci-layout", "blobs", "blobs/sha256") else blob(layout, which)
        if path.is_dir():
            path.rename(layout.parent / "moved")
        else:
            path.rename(layout.parent / "outside-file")
        put(path)
        return layout

    return change


def bind_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def json_blob(content: bytes) -> Callable[[Path], Path]:
    """A manifest of these bytes, with the right digest."""

    def change(layout: Path) -> Path:
        make(layout)
        write_index(layout, [write_blob(layout, content, MANIFEST_TYPE)])
        return layout

    return change


def nested(layout: Path) -> Path:
    """An index in an index, and in it the image."""
    make(layout)
    inner = write_object(layout, {"schemaVersion": 2, "manifests": [entry_of(layout)]}, INDEX_TYPE)
    outer = write_object(layout, {"schemaVersion": 2, "manifests": [inner]}, INDEX_TYPE)
    write_index(layout, [outer])
    return layout


def cycle(layout: Path) -> Path:
    """Two indexes that name each other; no digest can be right then."""
    make(layout)
    names = ["1" * 64, "2" * 64]
    entries = [{"mediaType": INDEX_TYPE, "digest": f"sha256:{name}", "size": 10} for name in names]
    for name, other in zip(names, reversed(entries)):
        (layout / "blobs/sha256" / name).write_text(json.dumps({"schemaVersion": 2, "manifests": [other]}))
    write_index(layout, entries[:1])
    return layout


def many_layers(layout: Path) -> Path:
    def layers(data: Json) -> None:
        data["layers"] = data["layers"][:1] * 600

    def diff_ids(data: Json) -> None:
        data["rootfs"]["diff_ids"] = data["rootfs"]["diff_ids"][:1] * 600

    return make(layout, manifest=layers, config=diff_ids)


ELSEWHERE = ["sha256:/", "sha256:../../../../../../etc/passwd", "sha256:", "sha256:" + "A" * 64, "sha512:" + "a" * 128]
ELSEWHERE += ["sha256:" + "a" * 63, "sha256:" + "a" * 64 + "\n", "../" + "a" * 64, "a" * 64, "", "sha256:." + "a" * 63]

ALL = ("add", "check", "list", "collect", "remove", "run", "load", "push")
# What reads manifests, what reads all blobs, what reads configs.
MANIFEST = ("add", "check", "collect", "run", "load", "push")
BLOB = ("add", "check", "run", "load", "push")
RUN = ("run",)

Case = Tuple[str, Callable[[Path], Path], Tuple[str, ...], str]

CASES: List[Case] = [
    ("no index", lambda layout: (make(layout) / "index.json").unlink() or layout, ALL, "index.json"),  # type: ignore[func-returns-value]
    ("empty index", text("index.json", b""), ALL, "index.json"),
    ("cut index", text("index.json", b'{"schemaVersion": 2, "manifests": [{'), ALL, "index.json"),
    ("index is a list", text("index.json", b"[]"), ALL, "index.json.*object"),
    ("index without manifests", text("index.json", b"{}"), ALL, "index.json.*`manifests`"),
    ("index is not UTF-8", text("index.json", b'{"manifests": [], "x": "\xff"}'), ALL, "index.json.*utf-8"),
    ("index is UTF-16", text("index.json", '{"manifests": []}'.encode("utf-16")), ALL, "index.json.*utf-8"),
    ("NUL bytes", text("index.json", bytes(512)), ALL, "index.json"),
    ("NaN", text("index.json", b'{"manifests": [], "x": NaN}'), ALL, "index.json.*NaN"),
    ("Infinity", text("index.json", b'{"manifests": [], "x": -Infinity}'), ALL, "index.json.*Infinity"),
    ("too large a number", text("index.json", b'{"manifests": [], "x": 1e999}'), ALL, "index.json.*1e999"),
    ("many digits", text("index.json", b'{"manifests": [], "x": ' + b"9" * 200_000 + b"}"), ALL, "index.json.*digits"),
    ("deep lists", text("index.json", b'{"manifests": ' + b"[" * 100_000), ALL, "index.json"),
    ("deep objects", text("index.json", b'{"a":' * 100_000), ALL, "index.json"),
    ("a key twice", text("index.json", b'{"manifests": [], "manifests": []}'), ALL, "index.json.*'manifests'.*twice"),
    ("half a pair", text("index.json", b'{"manifests": [], "x": "\\ud800"}'), ALL, "index.json.*surrogates"),
    ("huge", text("index.json", b'{"manifests": [' + b" " * LARGEST + b"]}"), ALL, "index.json.*at most"),
    ("manifests is an object", in_index("manifests", {}), ALL, "index.json.*`manifests`"),
    ("manifests is null", in_index("manifests", None), ALL, "index.json.*`manifests`"),
    ("entry is a string", in_index("manifests", ["sha256:" + "a" * 64]), ALL, r"index.json.*manifests\[0\]"),
    ("entry is null", in_index("manifests", [None]), ALL, r"index.json.*manifests\[0\]"),
    ("entry without digest", entry(digest=None), ALL, r"manifests\[0\].*`digest`"),
    ("entry without size", entry(size=None), ALL, r"manifests\[0\].*`size`"),
    ("entry without type", entry(mediaType=None), ALL, r"manifests\[0\].*`mediaType`"),
    ("type is a list", entry(mediaType=[]), ALL, r"manifests\[0\].*`mediaType`"),
    ("digest is a number", entry(digest=7), ALL, r"manifests\[0\].*`digest`"),
    ("digest is a list", entry(digest=["sha256:" + "a" * 64]), ALL, r"manifests\[0\].*`digest`"),
    ("size is a string", entry(size="12"), ALL, r"manifests\[0\].*`size`"),
    ("size is negative", entry(size=-1), ALL, r"manifests\[0\].*`size`"),
    ("size is true", entry(size=True), ALL, r"manifests\[0\].*`size`"),
    ("size is a fraction", entry(size=1.5), ALL, r"manifests\[0\].*`size`"),
    ("size is huge", entry(size=1 << 70), ALL, r"manifests\[0\].*`size`"),
    ("annotations are a list", entry(annotations=["a"]), ALL, r"manifests\[0\].*`annotations`"),
    ("name is a number", entry(annotations={"org.opencontainers.image.ref.name": 5}), ALL, "`annotations`"),
    ("name has a line feed", entry(annotations={"org.opencontainers.image.ref.name": "a\nb"}), ALL, "name"),
    ("name moves the cursor", entry(annotations={"org.opencontainers.image.ref.name": "\x1b[2Ja"}), ALL, "name"),
    *((f"digest {value!r:.30}", entry(digest=value), ALL, "`digest`") for value in ELSEWHERE),
    ("index is a directory", instead("index.json", lambda path: path.mkdir()), ALL, "index.json.*no regular file"),
    ("index is a FIFO", instead("index.json", os.mkfifo), ALL, "index.json.*neither"),
    ("index is a socket", instead("index.json", bind_socket), ALL, "index.json.*neither"),
    (
        "index is a link",
        instead("index.json", lambda path: path.symlink_to("../outside-file")),
        ALL,
        "index.json.*link",
    ),
    ("index is /dev/zero", instead("index.json", lambda path: path.symlink_to("/dev/zero")), ALL, "index.json.*link"),
    ("index is a loop", instead("index.json", lambda path: path.symlink_to("index.json")), ALL, "index.json.*link"),
    ("blobs lead out", instead("blobs", lambda path: path.symlink_to("../moved")), MANIFEST, "link"),
    ("sha256 leads out", instead("blobs/sha256", lambda path: path.symlink_to("../../moved")), MANIFEST, "link"),
    ("no blobs", instead("blobs", nothing), MANIFEST, "blobs"),
    ("blobs is a file", instead("blobs", lambda path: path.touch()), MANIFEST, "blobs"),
    ("wrong size of the manifest", entry(size=3), MANIFEST, "is damaged"),
    ("wrong digest of the manifest", entry(digest="sha256:" + "a" * 64), MANIFEST, "a{64}"),
    (
        "config in place of the manifest",
        instead("manifest", lambda path: path.write_text("{}")),
        MANIFEST,
        "is damaged",
    ),
    ("no manifest", instead("manifest", nothing), MANIFEST, "blobs"),
    ("manifest is a directory", instead("manifest", lambda path: path.mkdir()), MANIFEST, "no regular file"),
    ("manifest is a FIFO", instead("manifest", os.mkfifo), MANIFEST, "neither"),
    (
        "manifest is a link",
        instead("manifest", lambda path: path.symlink_to("../../../outside-file")),
        MANIFEST,
        "link",
    ),
    ("manifest is empty", json_blob(b""), MANIFEST, "blobs/sha256/e3b0c442"),
    ("manifest is a string", json_blob(b'"x"'), MANIFEST, "object"),
    ("manifest is deep", json_blob(b'{"a":' * 100_000), MANIFEST, "blobs/sha256"),
    ("manifest has nothing", json_blob(b"{}"), MANIFEST, "`config`"),
    ("manifest has a key twice", json_blob(b'{"layers": [], "layers": []}'), MANIFEST, "twice"),
    ("manifest is an index", in_manifest("manifests", []), MANIFEST, "`manifests`"),
    ("manifest of another type", in_manifest("mediaType", INDEX_TYPE), MANIFEST, "`mediaType`"),
    ("type of the manifest is a list", in_manifest("mediaType", []), MANIFEST, "`mediaType`"),
    ("config is a string", in_manifest("config", "x"), MANIFEST, "`config`"),
    ("config is null", in_manifest("config", None), MANIFEST, "`config`"),
    ("layers are a string", in_manifest("layers", "abc"), MANIFEST, "`layers`"),
    ("layers are an object", in_manifest("layers", {}), RUN, "`layers`"),
    ("layer is null", in_manifest("layers", [None]), MANIFEST, r"layers\[0\]"),
    ("subject is a string", in_manifest("subject", "x"), BLOB, "`subject`"),
    *(
        (f"layer's digest {value!r:.30}", in_layer("digest", value), MANIFEST, r"layers\[0\].*`digest`")
        for value in ELSEWHERE
    ),
    ("layer's size is null", in_layer("size", None), MANIFEST, r"layers\[0\].*`size`"),
    ("layer's type is a number", in_layer("mediaType", 1), MANIFEST, r"layers\[0\].*`mediaType`"),
    ("cycle", cycle, MANIFEST, "is damaged"),
    ("indexes in indexes", nested, RUN, "no image that can be run"),
    (
        "no image",
        lambda layout: make(layout, index=lambda data: data.update(manifests=[])),
        ("add", "run", "load", "push"),
        "holds 0",
    ),
    ("unknown type of the entry", entry(mediaType="text/plain"), RUN, "'text/plain'"),
    ("wrong size of a layer", in_layer("size", 5), BLOB, "bytes"),
    ("no layer", instead("layer", nothing), BLOB, "missing"),
    ("layer is a directory", instead("layer", lambda path: path.mkdir()), BLOB, "no regular file"),
    ("layer is a FIFO", instead("layer", os.mkfifo), BLOB, "neither"),
    ("layer is a link", instead("layer", lambda path: path.symlink_to("../../../outside-file")), BLOB, "link"),
    ("layer is cut", instead("layer", lambda path: path.write_bytes(b"\x1f\x8b")), BLOB, "bytes"),
    ("no config", instead("config", nothing), BLOB, "missing"),
    ("config is a FIFO", instead("config", os.mkfifo), BLOB, "neither"),
    ("config without rootfs", in_config("rootfs", None), RUN, "`rootfs`"),
    ("rootfs is a list", in_config("rootfs", []), RUN, "`rootfs`"),
    ("too few diff_ids", in_rootfs("diff_ids", []), RUN, "`diff_ids`"),
    ("diff_ids are a string", in_rootfs("diff_ids", "ab"), RUN, "`diff_ids`"),
    ("diff_ids are numbers", in_rootfs("diff_ids", [1, 2]), RUN, r"diff_ids\[0\]"),
    *((f"diff_id {value!r:.30}", in_rootfs("diff_ids", [value, value]), RUN, r"diff_ids\[0\]") for value in ELSEWHERE),
    ("history is an object", in_config("history", {"a": 1}), RUN, "`history`"),
    ("history has a string", in_config("history", ["a"]), RUN, r"history\[0\]"),
    ("inner config is a list", in_config("config", ["a"]), RUN, "`config`"),
    ("Cmd is a string", in_run("Cmd", "sh -c x"), RUN, "`Cmd`"),
    ("Cmd has a number", in_run("Cmd", ["sh", 1]), RUN, "`Cmd`"),
    ("Env is an object", in_run("Env", {"A": "b"}), RUN, "`Env`"),
    ("NUL in Env", in_run("Env", ["A=\0"]), RUN, "`Env`.*NUL"),
    ("User is a number", in_run("User", 7), RUN, "`User`"),
    ("WorkingDir is relative", in_run("WorkingDir", "../x"), RUN, "`WorkingDir`"),
    ("nothing to run", in_run("Cmd", None), RUN, "neither"),
    ("more layers than overlayfs takes", many_layers, RUN, "600 layers"),
    ("no layers", in_manifest("layers", []), RUN, "`layers`"),
]
# Beside these, `list` reads nothing but the index.
IDS = [name for name, _, _, _ in CASES]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """The directory of the layout; what is in it but the layout stays as it is, and a command that hangs ends."""
    (tmp_path / "canary").write_text("alive")
    (tmp_path / "programs").mkdir()
    program = tmp_path / "programs/any"
    program.write_text('#!/bin/sh\ntouch "$0.ran"\nexit 3\n')
    program.chmod(0o755)

    def too_long(*_: Any) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "canary").read_text() == "alive"


def call(top: Path, command: str, layout: Path) -> int:
    """The command on a layout. Programs of others only say that they were called."""
    if command == "add":
        return cli.main(["add", str(top / "target"), "--image", str(layout), "--name", "x"])
    if command in ("check", "list", "collect"):
        return cli.main([command, str(layout)])
    if command == "remove":
        return cli.main([command, str(layout), "a"])
    program = str(top / "programs/any")
    request: Json = {"image": str(layout), "skopeo": program}
    if command == "push":
        request.update(reference="localhost:1/a:b", tls_verify=False, retries=0)
    else:
        request.update(kind="crun" if command == "run" else "podman", runtime=program, names=["a:b"], engine_args=[])
        request.update(store=str(top / "store"), env=[], network="none", hostname="h", volumes=[], run_args=[])
    (top / "request.json").write_text(json.dumps(request))
    return cli.main([command, str(top / "request.json")])


def everything(top: Path) -> List[str]:
    return sorted(str(path) for path in top.rglob("*"))


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_damage(outside: Path, capfd: "pytest.CaptureFixture[str]", number: int) -> None:
    """Exit status 1, one message that names file and field; nothing is called and nothing is made."""
    _, change, commands, message = CASES[number]
    source = change(outside / "source")
    for command in commands:
        layout = outside / "layout"
        shutil.copytree(source, layout, symlinks=True) if no_special(source) else source.rename(layout)
        code = call(outside, command, layout)
        captured = capfd.readouterr()
        said = captured.out if command == "check" else captured.err
        assert code == 1, (command, captured)
        assert "Traceback" not in captured.err and re.search(message, said), (command, captured)
        assert command == "check" or captured.err.startswith("error: "), (command, captured)
        assert len(said) < 3000
        assert not (outside / "programs/any.ran").exists(), command
        store = outside / "store"
        assert not store.exists() or list((store).glob("v*/*/layers/*")) == [], command
        assert not (outside / "target/index.json").exists() or json.loads(
            (outside / "target/index.json").read_text()
        ) == {"manifests": [], "mediaType": INDEX_TYPE, "schemaVersion": 2}
        layout.rename(source) if not no_special(layout) else shutil.rmtree(layout)


def no_special(top: Path) -> bool:
    """Whether the tree can be copied."""
    return all(path.is_symlink() or path.is_file() or path.is_dir() for path in top.rglob("*"))


def test_what_is_whole_passes(tmp_path: Path, capfd: "pytest.CaptureFixture[str]") -> None:
    """The same sample without damage: so it is the damage that is refused."""
    layout = make(tmp_path / "layout")
    for command in ("add", "check", "list", "collect"):
        assert call(tmp_path, command, layout) == 0, capfd.readouterr()
    image = read_image(layout)
    assert (image.argv(()), image.user, image.workdir, len(image.layers)) == (["sh"], "0", "/", 2)
    assert problems(nested(tmp_path / "nested")) == []


def test_a_nested_index_is_read(tmp_path: Path) -> None:
    """An image of several platforms: its manifests are blobs that it cannot be without."""
    SharedLayout(tmp_path / "target").add(nested(tmp_path / "nested"), ["n"])
    SharedLayout(tmp_path / "target").collect()
    assert problems(tmp_path / "target") == []
    assert len(list((tmp_path / "target/blobs/sha256").iterdir())) == 6


def test_one_blob_under_two_types(tmp_path: Path) -> None:
    """Called a manifest in one place and a file in another: what it refers to is not collected, whatever is read first."""
    layout = make(tmp_path / "layout")
    image = entry_of(layout)
    for order in (1, -1):
        other = {**image, "mediaType": "application/octet-stream", "annotations": {}}
        write_index(layout, [image, other][::order])
        SharedLayout(layout).collect()
        assert problems(layout) == []


def test_two_sizes_of_one_blob(tmp_path: Path) -> None:
    layout = make(tmp_path / "layout")
    write_index(layout, [entry_of(layout), {**entry_of(layout), "size": 5, "mediaType": "text/plain"}])
    with pytest.raises(ToolError, match="is said to have"):
        SharedLayout(layout).collect()


@pytest.mark.parametrize(
    "name", [".opam-oci/lock", ".opam-oci/tmp/1-a.lock", ".opam-oci", ".opam-oci/tmp", "blobs/sha256"]
)
@pytest.mark.parametrize("command", ["add", "collect", "remove"])
def test_links_where_the_tool_writes(
    tmp_path: Path, capfd: "pytest.CaptureFixture[str]", name: str, command: str
) -> None:
    """A layout that came from elsewhere has links in the place of this tool's own files: theirs stay as they were."""
    target = tmp_path / "theirs"
    (target / "1-a").mkdir(parents=True)
    (target / "1-a/file").write_text("theirs")
    for file in ("lock", "1-a.lock"):
        (target / file).write_text("theirs")
        (target / file).chmod(0o400)
    layout = make(tmp_path / "layout")
    path = layout / name
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target / "lock" if name.endswith("lock") else target)
    before = {str(file): (file.stat().st_mode, file.stat().st_size) for file in target.rglob("*")}
    arguments = {
        "add": [str(layout), "--image", str(make(tmp_path / "image")), "--name", "b"],
        "collect": [str(layout)],
        "remove": [str(layout), "a"],
    }
    code = cli.main([command, *arguments[command]])
    # What stands in place of another process's lock is left alone; nothing goes on where it stands in place of anything else.
    assert code == (0 if "1-a" in name else 1), capfd.readouterr()
    after = {str(file): (file.stat().st_mode, file.stat().st_size) for file in target.rglob("*")}
    assert after == before


def test_a_directory_among_the_blobs(tmp_path: Path, capfd: "pytest.CaptureFixture[str]") -> None:
    """Nothing is deleted, rather than some of it."""
    layout = make(tmp_path / "layout")
    (layout / "blobs/sha256" / ("a" * 64)).write_text("not referred to")
    (layout / "blobs/sha256" / ("b" * 64)).mkdir()
    before = everything(layout / "blobs")
    assert cli.main(["collect", str(layout)]) == 1
    assert "is a directory" in capfd.readouterr().err and everything(layout / "blobs") == before
    assert cli.main(["check", str(layout)]) == 1


@pytest.mark.parametrize("name", ["x", "." + "a" * 64, "a" * 63, "A" * 64, "a" * 64 + ".tmp"])
def test_files_that_are_no_blobs(tmp_path: Path, name: str) -> None:
    layout = make(tmp_path / "layout")
    (layout / "blobs/sha256" / name).write_text("x")
    assert problems(layout) == [f"{name!r} in blobs/sha256 is no sha256"]


@pytest.mark.parametrize(
    "diff_id", ["/", "sha256:/", "..", "sha256:..", "sha256:../../x", "", "sha256:", "a" * 63, "A" * 64]
)
def test_the_store_makes_no_path_of_anything_else(tmp_path: Path, diff_id: str) -> None:
    """Neither to read nor to write nor to remove."""
    store = Store(tmp_path / "store", rootless=False)
    layer = ImageLayer("a layer", tmp_path / "blob", LAYER_TYPE, "sha256:" + "a" * 64, diff_id)
    calls: List[Callable[[], object]] = [
        lambda: store.get(layer),
        lambda: store.put(diff_id, lambda _: None),
        lambda: store.discard(diff_id),
        lambda: store.path(diff_id),
    ]
    for one in calls:
        with pytest.raises(ToolError, match="sha256 digest"):
            one()


@pytest.mark.parametrize(
    ("user", "passwd", "group"),
    [
        ("opam", "opam:x:abc:0::/:/bin/sh", ""),
        ("opam", "opam:x:1:abc::/:/bin/sh", ""),
        ("opam", "opam:x:4294967295:0::/:/bin/sh", ""),
        ("opam", "opam:x:-1:0::/:/bin/sh", ""),
        ("opam", "opam:x:\u00b2:0::/:/bin/sh", ""),
        ("opam", "opam:x:1:1::/:/bin/sh", "g:x:abc:opam"),
        ("1:g", "", "g:x:1e3:"),
        ("\u00b2", "", ""),
        ("99999999999999999999", "", ""),
        ("nobody", "opam:x:1:1", ""),
    ],
)
def test_accounts_that_make_no_sense(tmp_path: Path, user: str, passwd: str, group: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(passwd + "\n")
    (tmp_path / "etc/group").write_text(group + "\n")
    with pytest.raises(ToolError, match="the image's|number"):
        find_user(user, [tmp_path])


def test_an_endless_passwd(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with open(tmp_path / "etc/passwd", "wb") as out:
        out.truncate(1 << 40)
    with pytest.raises(ToolError, match="more than"):
        find_user("opam", [tmp_path])


def test_what_is_damaged_can_be_removed(tmp_path: Path) -> None:
    """By its name, and only if all that is kept can be read."""
    layout = make(tmp_path / "layout")
    make(tmp_path / "other", config=lambda data: data.update(author="somebody else"))
    SharedLayout(layout).add(tmp_path / "other", ["b"])
    manifest = blob(layout, "manifest")
    manifest.chmod(0o644)
    manifest.write_text("{")
    with pytest.raises(ToolError, match="it cannot be read"):
        SharedLayout(layout).remove(["b"])
    assert sorted(SharedLayout(layout).names()) == ["a", "b"]
    SharedLayout(layout).remove(["a"])
    assert SharedLayout(layout).names().keys() == {"b"} and problems(layout) == []
