"""Configurations of images: any bytes, or any JSON, with the right digest, and any /etc/passwd: an image or an error."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, List

from opam_sandbox.errors import ToolError
from opam_sandbox.running.image_config import find_user, read_image
from tests.fuzz.layout import MANIFEST, as_manifest, write

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_LAYER = b"a layer"
_DIFF_ID = "sha256:" + "a" * 64

SEEDS: List[bytes] = [
    json.dumps(value).encode()
    for value in (
        {
            "rootfs": {"type": "layers", "diff_ids": [_DIFF_ID]},
            "config": {"Cmd": ["sh"], "Env": ["A=b"], "User": "opam:x"},
        },
        {"rootfs": {"diff_ids": [_DIFF_ID]}, "history": [{"created_by": "x"}, {"empty_layer": True}]},
        {"rootfs": {"diff_ids": ["sha256:/"]}, "config": {"WorkingDir": "x"}},
        {"rootfs": None},
    )
] + [
    b"",
    b"root:x:0:0:root:/root:/bin/sh\nopam:x:1000:1000::/home/opam:/bin/sh\n",
    b"opam:x:abc:-1:::\n",
    b"opam:x:1:1:::\0\n",
]


def run(data: bytes) -> None:
    """`data` as the configuration of an image with one layer, then as its accounts."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        blobs = (data, _LAYER)
        config, layer = (
            {"mediaType": "x", "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}
            for blob in blobs
        )
        manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
        layout = write(top / "layout", as_manifest(manifest, MANIFEST), manifest, *blobs)
        try:
            image = read_image(layout)
            for one in image.layers:
                assert one.diff_id.startswith("sha256:") and len(one.diff_id) == 71, "a diff_id is no digest"
                assert one.blob.parent == layout / "blobs/sha256" and one.title.isprintable()
            texts = [*image.argv(["x"]), *image.entrypoint, *image.cmd, *image.env, image.user, image.workdir]
            assert all(isinstance(text, str) and "\0" not in text for text in texts), "a container cannot get this"
            json.dumps(texts, ensure_ascii=False).encode()
        except ToolError as error:
            assert str(error)
        (top / "etc").mkdir()
        for name in ("passwd", "group"):
            (top / "etc" / name).write_bytes(data)
        for user in ("opam", "root:x", "1000", "0:0"):
            try:
                ids = find_user(user, [top])
            except ToolError:
                continue
            assert all(0 <= number < (1 << 32) - 1 for number in (ids.uid, ids.gid, *ids.groups)), "an id is none"


def examples() -> "SearchStrategy[bytes]":
    """Configurations whose fields have values of all kinds."""
    from hypothesis import strategies as st

    plain = st.one_of(
        st.none(), st.text(max_size=3), st.integers(), st.lists(st.one_of(st.text(max_size=3), st.none()), max_size=2)
    )
    keys = st.sampled_from(["Entrypoint", "Cmd", "Env", "User", "WorkingDir"])
    inner = st.one_of(plain, st.dictionaries(keys, plain))
    some: List[object] = [{"diff_ids": [_DIFF_ID]}, {"diff_ids": ["sha256:/"]}, {"diff_ids": []}, None, [], {}]
    rootfs = st.sampled_from(some)
    return st.fixed_dictionaries({"config": inner, "rootfs": rootfs, "history": plain}).map(
        lambda data: json.dumps(data).encode()
    )
