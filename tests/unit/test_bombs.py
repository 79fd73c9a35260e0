"""Layers that are larger than they look: bounded by what a layer may have, in memory and on disk; and damaged blobs."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import resource
import sys
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import read_blob
from opam_sandbox.layer.capture import capture
from opam_sandbox.layer.compress import PackedWriter, Packing
from opam_sandbox.layer.merge_tars import merge
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.tar_headers import END
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.layer.walk_tree import Rules
from tests.support.tar_bytes import base256, extended, pax, raw, record
from tests.unit.conftest import Collected, make_layer, make_tar, member

pytestmark = pytest.mark.usefixtures("root_user")


def bounded(work: Callable[[], None]) -> int:
    """Run `work` in a child with 400 MB of memory more than this process has; its exit status, 0 if it raised a ToolError."""
    child = os.fork()
    if child == 0:
        code = 9
        try:
            with open("/proc/self/statm") as sizes:
                size = int(sizes.read().split()[0]) * resource.getpagesize() + (400 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
            resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
            work()
            code = 8
        except ToolError as error:
            print(error, file=sys.stderr)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Zeros:
    """A stream: a beginning, then zeros without end."""

    def __init__(self, head: bytes) -> None:
        self._head = io.BytesIO(head)

    def read(self, size: int = -1) -> bytes:
        return self._head.read(size) or bytes(min(size, 1 << 20))


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"X"])
@pytest.mark.parametrize("size", [1 << 27, (1 << 33) - 1, 1 << 40])
def test_headers_larger_than_memory(tmp_path: Path, kind: bytes, size: int) -> None:
    data = Zeros(raw(b"p", kind, base256(size)))
    assert bounded(lambda: unpack(data, tmp_path, rootless=False) and None) == 0


class Repeated:
    """A stream of one piece, again and again, and then the end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            self._left = next(self._pieces, b"")
        data, self._left = self._left[:size], self._left[size:]
        return data


def test_attributes_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held for all entries is bounded, not only what is held for one."""
    monkeypatch.setattr("opam_sandbox.layer.read_tar._MOST_DESCRIBED", 64 << 20)
    value = b"v" * 60_000
    many = (extended(record(b"SCHILY.xattr.user.a", value)) + raw(b"f%d" % number) for number in range(100_000))
    assert bounded(lambda: merge([Repeated(many)], Collected(), False) and None) == 0


def test_directories_without_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of a few thousand bytes that need a thousand directories each."""
    for module in ("unpack", "merge_tars"):
        monkeypatch.setattr(f"opam_sandbox.layer.{module}.MOST_IMPLIED", 2_000)
    data = b"".join(pax(b"path", b"%d/" % number + b"d/" * 1000 + b"f") for number in range(4)) + END
    with pytest.raises(ToolError, match="directories that it has no entries for"):
        unpack(io.BytesIO(data), tmp_path, rootless=False)
    with pytest.raises(ToolError, match="directories that it has no entries for"):
        merge([io.BytesIO(data)], Collected(), False)


def test_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that is a thousandth of its content: no more is unpacked, sent or written than a layer may have."""
    monkeypatch.setattr(read_blob, "LARGEST_LAYER", 8 << 20)
    layer = make_layer(tmp_path / "layer", make_tar([member("bomb", content=bytes(16 << 20))]))
    assert layer.size < 20_000
    store = Store(tmp_path / "store", rootless=False)
    with pytest.raises(ToolError, match="p.1 has more than"):
        store.get(layer)
    assert not store.path(layer.diff_id).exists() and list((tmp_path / "store").glob("v*/root/tmp/*")) == []
    sent = Collected()
    with pytest.raises(ToolError, match="p.1 has more than"):
        read_blob.copy_plain(layer, sent.write)
    assert len(sent.data) <= 9 << 20


def test_a_layer_that_is_too_large_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's file may be a hole of any size."""
    monkeypatch.setattr("opam_sandbox.layer.compress.LARGEST_LAYER", 8 << 20)
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree/hole", "wb") as out:
        out.truncate(1 << 40)
    rules = Rules(skip=lambda path, directory: False, owner=lambda path, status: (0, 0))
    writer = PackedWriter(io.BytesIO(), tmp_path, Packing("none", 0))
    with pytest.raises(
        ToolError, match="/hole has 1099511627776 bytes, and a layer at most 64 GiB, holes of files included"
    ):
        capture(tmp_path / "tree", rules, writer)
    # Files that are not too large each.
    (tmp_path / "tree/hole").unlink()
    for name in ("one", "two"):
        (tmp_path / "tree" / name).write_bytes(b"x" * (5 << 20))
    with pytest.raises(ToolError, match="a layer would have more than"):
        capture(tmp_path / "tree", rules, PackedWriter(io.BytesIO(), tmp_path, Packing("none", 0)))


GZIPS: List[Tuple[str, Callable[[bytes], bytes], Optional[str]]] = [
    ("two members", lambda tar: gzip.compress(tar[:700], mtime=0) + gzip.compress(tar[700:], mtime=0), None),
    ("an empty member", lambda tar: gzip.compress(tar, mtime=0) + gzip.compress(b"", mtime=0), None),
    ("zeros behind it", lambda tar: gzip.compress(tar, mtime=0) + bytes(512), None),
    ("garbage behind it", lambda tar: gzip.compress(tar, mtime=0) + b"garbage", "Not a gzipped file"),
    ("half a member behind it", lambda tar: gzip.compress(tar, mtime=0) + gzip.compress(tar, mtime=0)[:20], "end"),
    ("an archive behind it", lambda tar: gzip.compress(tar, mtime=0) * 2, "behind its end"),
    ("cut", lambda tar: gzip.compress(tar, mtime=0)[:-9], "end"),
    ("wrong check", lambda tar: gzip.compress(tar, mtime=0)[:-8] + b"12345678", "CRC"),
    ("wrong deflate", lambda tar: gzip.compress(tar, mtime=0)[:30] + b"\xff" * 30, "invalid|Error|damaged|end"),
    ("zstd", lambda tar: b"\x28\xb5\x2f\xfd" + tar, "Not a gzipped file"),
    ("empty", lambda tar: b"", "end"),
    ("plain", lambda tar: tar, "Not a gzipped file"),
]


@pytest.mark.parametrize("number", range(len(GZIPS)), ids=[name for name, _, _ in GZIPS])
def test_blobs(tmp_path: Path, number: int) -> None:
    """Its digest is right: what is wrong was made so."""
    _, pack, says = GZIPS[number]
    plain = make_tar([member("f", content=b"x" * 2000)])
    blob = pack(plain)
    layer = make_layer(tmp_path / "layer", plain)
    layer.blob.unlink()
    changed = {"digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}
    if says == "behind its end":
        changed["diff_id"] = f"sha256:{hashlib.sha256(plain * 2).hexdigest()}"
    layer = layer._replace(**changed)
    layer.blob.write_bytes(blob)
    store = Store(tmp_path / "store", rootless=False)
    if says is None:
        assert (store.get(layer) / "f").read_bytes() == b"x" * 2000
        return
    with pytest.raises(ToolError, match=says):
        store.get(layer)
    assert not store.path(layer.diff_id).exists()


def test_a_blob_that_is_a_fifo(tmp_path: Path) -> None:
    layer = make_layer(tmp_path / "layer", make_tar([member("f")]))
    layer.blob.unlink()
    os.mkfifo(layer.blob)
    store = Store(tmp_path / "store", rootless=False)
    with pytest.raises(ToolError, match="regular file"):
        store.get(layer)
    with pytest.raises(ToolError, match="regular file"):
        read_blob.check_blob(layer.blob, layer.digest, layer.size, "the blob")
