"""repack, merge and packing: other blobs of the same contents, the same on any number of cores."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.imaging.compression import read_packing
from opam_sandbox.imaging.requests import RepackRequest
from opam_sandbox.layer.compress import PackedWriter, Packing
from opam_sandbox.layer.read_blob import copy_plain
from opam_sandbox.request import check
from tests.unit.conftest import Namespaces, add_programs, make_layer, make_tar, member

DATA = os.urandom(3 << 20) + bytes(6 << 20) + b"end"


def with_program(tiny_root: Path, target: Path, name: str) -> Path:
    """The tiny root with one program more."""
    shutil.copytree(tiny_root, target, symlinks=True)
    add_programs(target, [name])
    return target


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny root with zstd."""
    return with_program(tiny_root, tmp_path_factory.mktemp("root") / "r", "zstd")


@pytest.fixture(scope="module")
def quick_root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny root with libdeflate's gzip."""
    return with_program(tiny_root, tmp_path_factory.mktemp("root") / "quick", "libdeflate-gzip")


def pack(root: Path, packing: Packing, workers: int) -> "tuple[bytes, Any]":
    out = io.BytesIO()
    writer = PackedWriter(out, root, packing, workers)
    for at in range(0, len(DATA), 1000003):
        writer.write(DATA[at : at + 1000003])
    written = writer.close()
    return out.getvalue(), written


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_bytes_do_not_depend_on_cores(namespaces: Namespaces, root: Path, compression: str) -> None:
    packing = Packing(compression, 0 if compression == "none" else 3)
    one, written = namespaces(lambda: pack(root, packing, 1))
    many, again = namespaces(lambda: pack(root, packing, 7))
    assert one == many and written == again
    assert written.diff_id == hashlib.sha256(DATA).hexdigest() and written.digest == hashlib.sha256(one).hexdigest()
    if compression == "gzip":
        plain = gzip.decompress(one)
    elif compression == "zstd":
        plain = subprocess.run(["zstd", "-dc"], input=one, stdout=subprocess.PIPE, check=True).stdout
    else:
        plain = one
    assert plain == DATA


def test_libdeflate_is_taken_where_it_is(namespaces: Namespaces, root: Path, quick_root: Path) -> None:
    """Whole members, the same on one core or many, with neither name nor time; gzip reads them."""
    packing = Packing("gzip", 5)
    one, written = namespaces(lambda: pack(quick_root, packing, 1))
    assert (one, written) == namespaces(lambda: pack(quick_root, packing, 7))
    assert one != namespaces(lambda: pack(root, packing, 2))[0]
    assert subprocess.run(["gzip", "-dc"], input=one, stdout=subprocess.PIPE, check=True).stdout == DATA
    assert one[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
    assert written.diff_id == hashlib.sha256(DATA).hexdigest() and written.digest == hashlib.sha256(one).hexdigest()


def test_levels_differ(namespaces: Namespaces, root: Path) -> None:
    sizes = [namespaces(lambda level=level: pack(root, Packing("gzip", level), 2)[1].size) for level in (1, 9)]  # type: ignore
    assert sizes[1] < sizes[0]


def test_a_base_without_zstd(tiny_root: Path) -> None:
    with pytest.raises(ToolError, match="add the Debian package zstd to its `packages`"):
        PackedWriter(io.BytesIO(), tiny_root, Packing("zstd", 3))


@pytest.mark.parametrize(
    ("compression", "level", "media_type"),
    [("gzip", 5, "tar+gzip"), ("zstd", 3, "tar+zstd"), ("none", 0, "tar")],
)
def test_defaults(compression: str, level: int, media_type: str) -> None:
    packing = read_packing({"store": "s", "layers": [], "compression": compression})
    assert packing.level == level
    assert packing.media_type == f"application/vnd.oci.image.layer.v1.{media_type}"


@pytest.mark.parametrize(
    "data", [{"compression": "xz"}, {"compression": "gzip", "level": 10}, {"compression": "none", "level": 1}]
)
def test_wrong_requests(data: Dict[str, Any]) -> None:
    request: Any = {"store": "s", "layers": [], **data}
    with pytest.raises(RequestError):
        check(request, RepackRequest, "r")
        read_packing(request)


def test_damaged_layers_are_refused(tmp_path: Path) -> None:
    layer = make_layer(tmp_path / "l", make_tar([member("a", content=b"x" * 1000)]))
    collected = io.BytesIO()
    copy_plain(layer, collected.write)
    assert hashlib.sha256(collected.getvalue()).hexdigest() == layer.diff_id.partition(":")[2]
    layer.blob.write_bytes(layer.blob.read_bytes()[:-9])
    with pytest.raises(ToolError, match="p.1"):
        copy_plain(layer, lambda data: None)
    layer.blob.write_bytes(gzip.compress(b"other"))
    with pytest.raises(ToolError, match="damaged"):
        copy_plain(layer, lambda data: None)


def test_commands(namespaces: Namespaces, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """repack keeps the contents, merge makes one layer; both write a layer directory."""
    from opam_sandbox.imaging import merge, repack
    from opam_sandbox.layer.description import read_layer
    from opam_sandbox.layer.store import Store

    monkeypatch.chdir(tmp_path)
    base = make_layer(tmp_path / "in/0", make_tar([member("base")]), "base", "b")
    one = make_layer(tmp_path / "in/1", make_tar([member("one")]))
    make_layer(tmp_path / "in/2", make_tar([member("two"), member(".wh.one")]))
    store = Store(tmp_path / "store", False)
    store.put(base.diff_id, lambda target: shutil.copytree(root, target, symlinks=True, dirs_exist_ok=True) and None)
    packing: Any = {"store": "store", "compression": "zstd"}
    assert repack.run({**packing, "layers": ["in/0", "in/1"]}, 1) == 0
    packed = read_layer(Path("."))
    assert (packed.diff_id, packed.title, packed.opam) == (one.diff_id, one.title, one.opam)
    assert packed.digest != one.digest and packed.media_type.endswith("+zstd")
    shutil.rmtree("blobs")
    request: Any = {**packing, "compression": "none", "layers": ["in/0", "in/1", "in/2"], "name": "group"}
    assert merge.run({**request, "whole": False}, 1) == 0
    assert read_layer(Path(".")).kind == "group"
    listed = subprocess.run(
        ["tar", "-tf", str(read_layer(Path(".")).blob)], stdout=subprocess.PIPE, text=True, check=True
    )
    assert listed.stdout.split() == [".wh.one", "two"]
    shutil.rmtree("blobs")
    assert merge.run({**request, "whole": True}, 1) == 0
    assert read_layer(Path(".")).kind == "flat"
    listed = subprocess.run(
        ["tar", "-tf", str(read_layer(Path(".")).blob)], stdout=subprocess.PIPE, text=True, check=True
    )
    assert listed.stdout.split() == ["base", "two"]
    assert json.loads(Path("layer.json").read_text())["files"] == 2
