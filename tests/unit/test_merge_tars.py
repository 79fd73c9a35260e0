"""merge: one tar that shows what several layers show together, over anything below them."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.merge_tars import merge
from tests.unit.conftest import Collected, make_tar, member

Member = Tuple[tarfile.TarInfo, bytes]


def merged(*layers: List[Member], whole: bool = False) -> bytes:
    sink = Collected()
    merge([io.BytesIO(make_tar(layer)) for layer in layers], sink, whole)
    return sink.data


def names(data: bytes) -> List[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [one.name for one in archive]


def directory(name: str, **fields: Any) -> Member:
    return member(name, tarfile.DIRTYPE, **fields)


class _View:
    """A file system as image-spec's layer.md has layers applied: an independent and simple model."""

    def __init__(self) -> None:
        self.paths: Dict[str, Tuple[object, ...]] = {}

    def _remove(self, path: str) -> None:
        for other in [p for p in self.paths if p == path or p.startswith(path + "/")]:
            del self.paths[other]

    def apply(self, data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = archive.getmembers()
            for one in members:
                parent, name = os.path.split(one.name)
                if name == ".wh..wh..opq":
                    for other in [p for p in self.paths if p.startswith(parent + "/")]:
                        del self.paths[other]
                elif name.startswith(".wh."):
                    self._remove(os.path.join(parent, name[4:]))
            for one in members:
                if os.path.basename(one.name).startswith(".wh."):
                    continue
                if one.isdir():
                    if self.paths.get(one.name, ("",))[0] != "dir":
                        self._remove(one.name)
                    self.paths[one.name] = ("dir", one.mode)
                else:
                    self._remove(one.name)
                    content = archive.extractfile(one)
                    self.paths[one.name] = ("file", one.mode, content.read() if content else b"")


@st.composite
def layer(draw: Any) -> List[Member]:
    """A layer over the names a, b in two levels: files, directories, whiteouts, opaque marks; parents are always there."""
    entries: List[Member] = []
    for top in ("a", "b"):
        kind = draw(st.sampled_from(["", "file", "dir", "gone"]))
        if kind == "file":
            entries.append(member(top, content=draw(st.binary(max_size=3))))
        elif kind == "gone":
            entries.append(member(f".wh.{top}"))
        elif kind == "dir":
            entries.append(directory(top, mode=draw(st.sampled_from([0o755, 0o700]))))
            if draw(st.booleans()):
                entries.append(member(f"{top}/.wh..wh..opq"))
            for name in ("x", "y"):
                below = draw(st.sampled_from(["", "file", "dir", "gone"]))
                if below == "file":
                    entries.append(member(f"{top}/{name}", content=draw(st.binary(max_size=3))))
                elif below == "dir":
                    entries.append(directory(f"{top}/{name}"))
                elif below == "gone":
                    entries.append(member(f"{top}/.wh.{name}"))
    return entries


@given(st.lists(layer(), min_size=1, max_size=4), layer(), st.booleans())
def test_the_same_view(layers: List[List[Member]], below: List[Member], whole: bool) -> None:
    """Over any layer below, or over nothing if whole, one merged layer shows what the layers show."""
    below = [] if whole else [one for one in below if not os.path.basename(one[0].name).startswith(".wh.")]
    expected, found = _View(), _View()
    for view in (expected, found):
        view.apply(make_tar(below))
    for one in layers:
        expected.apply(make_tar(one))
    found.apply(merged(*layers, whole=whole))
    assert found.paths == expected.paths


@given(st.lists(layer(), min_size=3, max_size=3))
def test_in_any_steps(layers: List[List[Member]]) -> None:
    """Merging what was merged gives the same bytes as merging all at once."""
    first, second, third = ([*one] for one in layers)
    sink = Collected()
    partly = merged(first, second)
    merge([io.BytesIO(partly), io.BytesIO(make_tar(third))], sink, False)
    again = Collected()
    merge([io.BytesIO(merged(first, second, third))], again, False)
    once = _View()
    twice = _View()
    once.apply(sink.data)
    twice.apply(again.data)
    assert once.paths == twice.paths


def test_hard_links_survive_their_first_name() -> None:
    linked = [
        member("d/a", content=b"x", mode=0o4755),
        member("d/b", tarfile.LNKTYPE, linkname="d/a"),
        member("d/c", tarfile.LNKTYPE, linkname="d/a"),
    ]
    with tarfile.open(fileobj=io.BytesIO(merged(linked, [member("d/.wh.a")]))) as archive:
        found = {one.name: one for one in archive}
        assert set(found) == {"d/.wh.a", "d/b", "d/c"}
        assert found["d/b"].isreg() and found["d/b"].mode == 0o4755
        assert found["d/c"].islnk() and found["d/c"].linkname == "d/b"


def test_no_whiteouts_where_nothing_lies_below() -> None:
    assert names(merged([directory("d"), member("d/a")], [member("d/.wh.a"), member(".wh.b")], whole=True)) == ["d"]


def test_metadata_is_kept() -> None:
    special = member("d/s", content=b"12", uid=1000, gid=7, mtime=315532800)
    special[0].pax_headers = {"SCHILY.xattr.user.x": "y"}
    long = member("d/" + "n" * 250, tarfile.SYMTYPE, linkname="t" * 200)
    with tarfile.open(fileobj=io.BytesIO(merged([special], [long]))) as archive:
        one, two = sorted(archive, key=lambda item: len(item.name))
        assert (one.uid, one.gid, one.mtime, one.pax_headers["SCHILY.xattr.user.x"]) == (1000, 7, 315532800, "y")
        assert (two.name, two.linkname) == ("d/" + "n" * 250, "t" * 200)


def test_same_bytes_every_time_and_unpackable(tmp_path: Path) -> None:
    layers = [[directory("d"), member("d/b"), member("d/a")], [member("c")]]
    assert merged(*layers) == merged(*layers)
    (tmp_path / "t.tar").write_bytes(merged(*layers))
    with tarfile.open(tmp_path / "t.tar") as archive:
        assert [one.name for one in archive] == ["c", "d", "d/a", "d/b"]
        assert all(stat.S_IMODE(one.mode) for one in archive)


@pytest.mark.parametrize("bad", ["../x", "a/../../x", "/x"])
def test_unsafe_names(bad: str) -> None:
    with pytest.raises(ToolError, match="unsafe"):
        merged([member(bad)])


def test_damaged_archives() -> None:
    broken: BinaryIO = io.BytesIO(b"x" * 2048)
    with pytest.raises(ToolError, match="damaged"):
        merge([broken], Collected(), False)
    with pytest.raises(ToolError, match="names no file"):
        merged([member("b", tarfile.LNKTYPE, linkname="a")])
