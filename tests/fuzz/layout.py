"""Layouts: any bytes as index.json, or as a manifest with the right digest: `check`, `list` and `add` say what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, List

from opam_sandbox.errors import ToolError
from opam_sandbox.oci.check_layout import problems
from opam_sandbox.oci.shared_layout import SharedLayout

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
    "size": 2,
}
_NAMED = {"annotations": {"org.opencontainers.image.ref.name": "a"}}

SEEDS: List[bytes] = [
    json.dumps(value).encode()
    for value in (
        {"schemaVersion": 2, "manifests": []},
        {"schemaVersion": 2, "manifests": [{**EMPTY, **_NAMED}]},
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": EMPTY, "layers": [EMPTY]},
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": EMPTY, "layers": [], "subject": EMPTY},
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**EMPTY, "mediaType": MANIFEST}]},
        {"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, "digest": "sha256:/", "size": -1}]},
    )
] + [b"", b"[]", b'{"manifests": NaN}', b"\xff", b'{"a":' * 2000, b'{"manifests": [' + b"9" * 5000]


def write(layout: Path, index: bytes, *blobs: bytes) -> Path:
    """A layout with these bytes as its index.json, and blobs."""
    directory = layout / "blobs/sha256"
    directory.mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_bytes(index)
    for blob in blobs:
        (directory / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
    return layout


def as_manifest(data: bytes, kind: str) -> bytes:
    """The index of a layout whose one entry is `data`."""
    entry = {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data), **_NAMED}
    return json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()


def run(data: bytes) -> None:
    """`data` as the index, as a manifest and as an index in the index."""
    for index, blobs in (
        (data, (b"{}",)),
        (as_manifest(data, MANIFEST), (b"{}", data)),
        (as_manifest(data, INDEX), (b"{}", data)),
    ):
        with tempfile.TemporaryDirectory() as directory:
            top = Path(directory)
            layout = write(top / "layout", index, *blobs)
            found = problems(layout)
            assert all(isinstance(problem, str) and problem.isprintable() for problem in found), (
                "a problem moves the cursor"
            )
            for work in (SharedLayout(layout).names, SharedLayout(layout).collect, lambda: add(layout, top / "target")):
                try:
                    work()
                except ToolError as error:
                    assert str(error)
            assert set(os.listdir(top)) <= {"layout", "target"}, "something is beside the layouts"
            if (top / "target/index.json").exists():
                assert problems(top / "target") == [], "what was added is not whole"


def add(layout: Path, target: Path) -> None:
    """Put the layout's image into another."""
    SharedLayout(target).add(layout, ["b"])


def examples() -> "SearchStrategy[bytes]":
    """JSON that has the fields of descriptors, with values of all kinds."""
    from hypothesis import strategies as st

    digest = st.sampled_from([EMPTY["digest"], "sha256:/", "sha256:" + "a" * 64, "", "../x", None, 1])
    kinds: List[object] = [MANIFEST, INDEX, "text/plain", "", None, []]
    kind = st.sampled_from(kinds)
    size = st.one_of(st.integers(-2, 3), st.none(), st.booleans(), st.just(1 << 70))
    descriptor = st.fixed_dictionaries({"digest": digest, "mediaType": kind, "size": size})
    value = st.one_of(st.none(), st.text(max_size=3), st.integers(), descriptor, st.lists(descriptor, max_size=3))
    keys = st.sampled_from(["manifests", "config", "layers", "subject", "mediaType", "annotations"])
    return st.dictionaries(keys, value, max_size=5).map(lambda data: json.dumps(data).encode())
