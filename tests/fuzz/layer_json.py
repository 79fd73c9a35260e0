"""layer.json, inventories of the store and requests: what other processes, or a damaged disk, give the tool."""

from __future__ import annotations

import json
from typing import Any, List

from opam_sandbox.building.requests import BuildRequest, RootfsRequest
from opam_sandbox.errors import RequestError
from opam_sandbox.files import write_json
from opam_sandbox.imaging.requests import ArchiveRequest, RuntimeRequest, StateRequest
from opam_sandbox.layer import inventory
from opam_sandbox.layer.description import installed_packages, read_layer
from opam_sandbox.locking.opam_steps import LockOpamRequest
from opam_sandbox.locking.requests import Solution
from opam_sandbox.opam.package import metadata, read_package
from opam_sandbox.request import read_request
from tests.fuzz._places import place

_LAYER = {
    "kind": "package",
    "name": "lwt",
    "version": "5.6.1",
    "diff_id": "sha256:" + "ab" * 32,
    "digest": "sha256:" + "cd" * 32,
    "size": 123,
    "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
    "files": 42,
    "opam": {"package": "lwt.5.6.1"},
    "dpkg": {"status": {"a:amd64": "Package: a"}, "triggers": ["/x y"]},
}
_PACKAGE = {"name": "a", "version": "1", "opam": "x: 1", "files": [{"path": "d/f", "content": "eA=="}]}
_REQUESTS: List[Any] = [
    {"store": "s", "layers": ["l"], "package": {**_PACKAGE, "sources": [], "debs": []}, "with_test": True},
    {"store": "s", "layers": ["l"], "packages": [_PACKAGE], "roots": ["a.1"]},
    {"step": "indexes", "store": "s", "mirrors": [], "suite": "x", "architecture": "y", "source_suites": []},
    {"layers": ["l"], "history": [{"created_by": "x"}], "architecture": "a", "os": "l", "config": {}, "created": "z"},
    {"format": "oci-archive", "layout": "l", "images": []},
]
_KINDS: List[Any] = [
    *(
        BuildRequest,
        RootfsRequest,
        StateRequest,
        LockOpamRequest,
        ArchiveRequest,
        RuntimeRequest,
        Solution,
    )
]
SEEDS: List[bytes] = [json.dumps(value).encode() for value in (_LAYER, _PACKAGE, *_REQUESTS)]
SEEDS += [
    b'{"name": "\\udcff", "path": "\\ud800", "x": 1e999, "y": NaN}',
    b"1 " + b"ab" * 32 + b" 1\n100644 1 1 - - x\0",
]
TOKENS = b'"kind" "package" "name" "files" "path" "../x" "opam" {} [] [{}] null 1e9 -1 "\\\\ud800" "\\\\u0000" sha256:'.split()


def run(data: bytes) -> None:
    directory = place("layer")
    (directory / "layer.json").write_bytes(data)
    try:
        layer = read_layer(directory)
        assert layer.blob.parent == directory / "blobs/sha256"
        installed_packages([layer])
        write_json(str(directory / "again.json"), [layer.opam, layer.dpkg, layer.name])
    except RequestError as error:
        assert len(str(error)) < 2000
    for kind in _KINDS:
        try:
            request = read_request(str(directory / "layer.json"), kind)
        except RequestError as error:
            assert len(str(error)) < 2000
            continue
        for item in [request["package"]] if "package" in request else request.get("packages", []):
            try:
                package = read_package(item)
            except (RequestError, KeyError):  # KeyError: those of a solution are no PackageFields
                continue
            for path, _, _ in metadata(package, "top", package.opam):
                assert path.startswith("top/") and "/../" not in f"/{path}/" and "\0" not in path
    assert inventory.difference(directory, data, False)
