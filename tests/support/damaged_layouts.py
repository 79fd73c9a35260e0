"""Layouts that are damaged, or made to do harm: how each is made, which commands must refuse it, and what they say."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

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
    ("half a pair", text("index.json", b'{"manifests": [], "x": "\\ud800"}'), ALL, "index.json.*half of a UTF-16 pair"),
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
