"""contents: what a layer has and hides, by its blob."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.looking import contents
from tests.unit.conftest import make_layer, make_tar, member


def test_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_layer(
        tmp_path / "in",
        make_tar(
            [
                member("usr", tarfile.DIRTYPE),
                member("usr/f", content=b"abc", mode=0o4755, uid=1000, gid=5),
                member("usr/g", tarfile.LNKTYPE, linkname="usr/f"),
                member("usr/l", tarfile.SYMTYPE, linkname="../etc/x"),
                member("usr/.wh.gone"),
                member("srv", tarfile.DIRTYPE),
                member("srv/.wh..wh..opq"),
                member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
                member("a\nb\udcff"),
            ]
        ),
    )
    assert contents.run({"layers": ["in"]}, 1) == 0
    found = json.loads(Path("contents.json").read_text())
    assert found["hides"] == ["usr/gone", "srv/"]
    assert [entry[:2] + entry[2:] for entry in found["entries"]][:4] == [
        ["usr", "directory", "0755", 0, 0, 0, ""],
        ["usr/f", "file", "4755", 1000, 5, 3, ""],
        ["usr/g", "hard link", "4755", 1000, 5, 3, "usr/f"],
        ["usr/l", "link", "0644", 0, 0, 0, "../etc/x"],
    ]
    assert [entry[:2] for entry in found["entries"][4:]] == [
        ["srv", "directory"],
        ["dev/null", "character device"],
        ["a\nb\udcff", "file"],
    ]


def test_a_damaged_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layer = make_layer(tmp_path / "in", make_tar([member("f")]))
    layer.blob.write_bytes(layer.blob.read_bytes()[:-9])
    with pytest.raises(ToolError, match="p.1"):
        contents.run({"layers": ["in"]}, 1)
    assert not Path("contents.json").exists()
    with pytest.raises(RequestError):
        contents.run({"layers": []}, 1)
