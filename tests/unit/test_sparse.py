"""Files with holes: captured without reading these, packed once, unpacked as holes; the same bytes as of files that are full."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import List, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.capture import EPOCH, capture
from opam_sandbox.layer.compress import LARGEST_LAYER, PIECE, PackedWriter, Packing
from opam_sandbox.layer.holes import ZEROS
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.layer.walk_tree import Rules
from tests.unit.conftest import Collected

MIB = 1 << 20
RULES = Rules(skip=lambda *_: False, owner=lambda *_: (0, 0))

# (where, what) of the data; the last number is the file's size
FILES: List[Tuple[List[Tuple[int, bytes]], int]] = [
    ([], 0),
    ([], 1),
    ([], 9 * MIB + 7),
    ([(0, b"begin")], 5 * MIB),
    ([(5 * MIB, b"end")], 5 * MIB + 3),
    ([(3 * MIB + 5, b"middle" * 1000)], 12 * MIB + 1),
    ([(0, b"a"), (2 * MIB, b"b" * 5000), (2 * MIB + 8192, b"\0" * 4096), (7 * MIB, b"c")], 20 * MIB),
]


def make(directory: Path, sparse: bool) -> Path:
    directory.mkdir()
    for number, (pieces, size) in enumerate(FILES):
        with open(directory / f"{number}", "wb") as out:
            if not sparse:
                out.write(bytes(size))
            out.truncate(size)
            for at, data in pieces:
                out.seek(at)
                out.write(data)
        os.utime(directory / f"{number}", (1, 1))
    return directory


def captured(root: Path) -> bytes:
    sink = Collected()
    capture(root, RULES, sink)
    return sink.data


def test_holes_do_not_show_in_a_layer(tmp_path: Path) -> None:
    sparse, full = make(tmp_path / "sparse", True), make(tmp_path / "full", False)
    data = captured(sparse)
    assert data == captured(full)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            assert file and file.read() == (full / entry.name).read_bytes()


def test_unpacked_they_are_holes(tmp_path: Path, root_user: None) -> None:
    sparse = make(tmp_path / "sparse", True)
    (tmp_path / "out").mkdir()
    unpack(io.BytesIO(captured(sparse)), tmp_path / "out", rootless=False)
    for path in sparse.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "out/2").stat().st_blocks * 512 < 2 * MIB


def test_zeros_are_packed_once(root_user: None, packed_pieces: List[int]) -> None:
    """Whatever stands before them, and in whatever pieces they come."""
    packed = set()
    for big in (True, False):
        packed_pieces.clear()
        out = io.BytesIO()
        writer = PackedWriter(out, Path("/"), workers=2)
        writer.write(b"x" * 513)
        for _ in range(40):
            writer.write(bytes(bytearray(ZEROS)) if big else bytes(MIB // 2))
            if not big:
                writer.write(bytes(MIB // 2))
        writer.write(b"y")
        writer.close()
        assert gzip.decompress(out.getvalue()) == b"x" * 513 + bytes(40 * MIB) + b"y"
        packed.add(out.getvalue())
        assert len(packed_pieces) == (3 if big else 11)
    assert len(packed) == 1


def test_pieces_of_zeros_only(root_user: None) -> None:
    for count in (PIECE // MIB, PIECE // MIB + 1):
        out = io.BytesIO()
        writer = PackedWriter(out, Path("/"), Packing("none", 0))
        for _ in range(count):
            writer.write(ZEROS)
        assert writer.close().plain_size == count * MIB and out.getvalue() == bytes(count * MIB)


def test_a_file_that_no_layer_holds_is_named_at_once(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as out:
        out.truncate(LARGEST_LAYER + 1)
    with pytest.raises(ToolError, match="/huge has 68719476737 bytes"):
        captured(tmp_path)


@pytest.mark.parametrize("seconds", [-1, -(2**31), 0, 2**31, 2**32 + 5, 2**33 + 5])
def test_times_that_tars_do_not_hold(tmp_path: Path, seconds: int) -> None:
    """Before 1970 is 1970; what is younger than a layer's files is as old as these."""
    (tmp_path / "file").write_text("x")
    os.utime(tmp_path / "file", ns=(0, seconds * 10**9 + 999_999_999))
    with tarfile.open(fileobj=io.BytesIO(captured(tmp_path))) as archive:
        found = os.lstat(tmp_path / "file").st_mtime
        assert archive.getmember("file").mtime == max(0, min(int(found), EPOCH))
