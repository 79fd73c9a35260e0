"""The command `export`: layers put together as a switch that is whole or as it was."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import pytest

from opam_sandbox.exporting import cli, swap

OLD = "/home/opam/.opam/default"
VARIABLES = [f"OPAM_SWITCH_PREFIX={OLD}", f"PATH={OLD}/bin:/usr/bin:/bin"]

# (name, content or target, kind, mode)
Entry = Tuple[str, Any, bytes, int]


def file(name: str, content: "bytes | str", mode: int = 0o644) -> Entry:
    return (
        f"home/opam/.opam/default/{name}",
        content.encode() if isinstance(content, str) else content,
        tarfile.REGTYPE,
        mode,
    )


def link(name: str, target: str) -> Entry:
    return f"home/opam/.opam/default/{name}", target, tarfile.SYMTYPE, 0o777


def hard(name: str, first: str) -> Entry:
    return f"home/opam/.opam/default/{name}", f"home/opam/.opam/default/{first}", tarfile.LNKTYPE, 0o644


def write_layer(directory: Path, package: str, entries: Sequence[Entry]) -> None:
    """A layer directory of a package."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, kind, mode in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = kind, mode, 315532800
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            elif kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname = content
            elif kind == tarfile.CHRTYPE:
                member.devmajor, member.devminor = 1, 3
            archive.addfile(member, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    blob = gzip.compress(out.getvalue(), 1, mtime=0)
    digest = hashlib.sha256(blob).hexdigest()
    (directory / "blobs/sha256").mkdir(parents=True)
    (directory / "blobs/sha256" / digest).write_bytes(blob)
    name, _, version = package.partition(".")
    fields = {
        "kind": "package",
        "name": name,
        "version": version,
        "diff_id": f"sha256:{hashlib.sha256(out.getvalue()).hexdigest()}",
        "digest": f"sha256:{digest}",
        "size": len(blob),
        "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
        "files": len(entries),
        "opam": {"package": package},
        "dpkg": {},
    }
    (directory / "layer.json").write_text(json.dumps(fields))


class Export:
    """The command as Pants runs it: below dist/export/opam/NAME, with its links there."""

    def __init__(self, top: Path) -> None:
        self.own = top / "dist/export/opam/default"
        self.prefix = self.own / "switch"
        self.tree = top / "dist/export/opam/.switches/default/switch"

    def run(self, *layers: Sequence[Entry], damaged: Optional[int] = None, **request: Any) -> int:
        """`damaged`: the number of a layer whose blob is another one."""
        made_by = self.own / ".export"
        made_by.mkdir(parents=True)
        for name, target in (("switch", "../.switches/default/switch"), ("env.sh", "switch/env.sh")):
            if not (self.own / name).is_symlink():
                (self.own / name).symlink_to(target)
        for number, entries in enumerate(layers):
            write_layer(made_by / f"in/{number}", f"p{number}.1", entries)
        if damaged is not None:
            [blob] = (made_by / f"in/{damaged}/blobs/sha256").iterdir()
            blob.write_bytes(gzip.compress(b"\0" * 10240, mtime=0))
        values = {
            "layers": [f"in/{number}" for number in range(len(layers))],
            "resolve": "default",
            "prefix": str(self.prefix),
            "tree": str(self.tree),
            "made_by": str(made_by),
            "variables": VARIABLES,
            "depexts": {},
            "compiler": "",
            "check_host": False,
            **request,
        }
        (made_by / "request.json").write_text(json.dumps(values))
        here = os.getcwd()
        os.chdir(made_by)
        try:
            return cli.main(["export", "request.json"])
        finally:
            os.chdir(here)

    def files(self) -> List[str]:
        return sorted(
            path.relative_to(self.tree).as_posix()
            for path in self.tree.rglob("*")
            if path.is_symlink() or not path.is_dir()
        )


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


def test_layers_over_one_another(export: Export) -> None:
    first = [
        file("lib/findlib.conf", f'path="{OLD}/lib"'),
        file("lib/old/META", "old"),
        file("lib/kept/META", "kept"),
        file("bin/a", f"#!{OLD}/bin/ocamlrun\n", 0o4755),
        hard("bin/b", "bin/a"),
        file(".opam-switch/switch-state", "opam's own"),
        ("etc/passwd", b"x", tarfile.REGTYPE, 0o644),
    ]
    second = [
        file("lib/old/.wh.META", ""),
        file("lib/kept/.wh..wh..opq", ""),
        file("lib/kept/new", "new", 0o600),
        file("bin/a", "second", 0o755),
        link("bin/c", f"{OLD}/bin/a"),
        link("lib/d", "../bin"),
    ]
    assert export.run(first, second) == 0
    assert export.files() == [
        "bin/a",
        "bin/b",
        "bin/c",
        "env.sh",
        "lib/d",
        "lib/findlib.conf",
        "lib/kept/new",
        "not-relocated.txt",
    ]
    assert (export.prefix / "lib/findlib.conf").read_text() == f'path="{export.prefix}/lib"'
    assert (export.tree / "bin/a").read_text() == "second"
    assert (export.tree / "bin/b").read_text() == f"#!{export.prefix}/bin/ocamlrun\n"
    assert os.readlink(export.tree / "bin/c") == "a" and os.readlink(export.tree / "lib/d") == "../bin"
    assert stat.S_IMODE((export.tree / "bin/b").stat().st_mode) == 0o755  # not set-id
    assert stat.S_IMODE((export.tree / "lib/kept/new").stat().st_mode) == 0o644
    assert (export.tree / "bin/a").stat().st_mtime == 315532800
    assert sorted(os.listdir(export.own)) == ["env.sh", "switch"]
    assert f"export OPAM_SWITCH_PREFIX='{export.prefix}'" in (export.own / "env.sh").read_text()


def test_what_is_left_is_named(export: Export) -> None:
    assert export.run([file("lib/x.cma", f"Caml1999A035{OLD}"), file("lib/y", OLD)]) == 0
    assert (export.tree / "not-relocated.txt").read_text() == "lib/x.cma\n"


def test_what_is_no_file_of_a_switch_is_left_out(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    layer = [
        link("out", "/etc/passwd"),
        link("up", "../../../../etc/passwd"),
        link("lib/a/up", "../../../x"),
        link("through", "dir/../../x"),
        link("dir", "lib/a"),
        file("lib/a/x", "x"),
        link("dangling", "nothing"),
        ("home/opam/.opam/default/null", b"", tarfile.CHRTYPE, 0o666),
        ("home/opam/.opam/default/pipe", b"", tarfile.FIFOTYPE, 0o666),
    ]
    assert export.run(layer) == 0
    assert export.files() == ["dangling", "dir", "env.sh", "lib/a/x", "not-relocated.txt", "through"]
    said = capsys.readouterr().err
    for name in ("out", "up", "lib/a/up"):
        assert f"note: left out: the link {name}, which leads out of the switch" in said
    assert "note: left out: null, which is a device or a pipe" in said and "pipe, which" in said


@pytest.mark.parametrize(
    "entries",
    [
        [("home/opam/.opam/.wh.default", b"", tarfile.REGTYPE, 0o644)],
        [("home/opam/.opam", "/tmp", tarfile.SYMTYPE, 0o777)],
        [hard("lib/x", "nothing")],
        [link("way", "lib"), file("way/y", "y")],
    ],
)
def test_layers_that_no_switch_is_made_of(export: Export, entries: List[Entry]) -> None:
    """What was exported before stays, and nothing of the attempt does."""
    assert export.run([file("lib/x", "before")]) == 0
    before = export.tree.stat().st_ino
    assert export.run(entries) == 1
    assert export.tree.stat().st_ino == before and (export.prefix / "lib/x").read_text() == "before"
    assert sorted(os.listdir(export.tree.parent)) == ["lock", "switch"]
    assert sorted(os.listdir(export.own)) == ["env.sh", "switch"]


def test_a_directory_in_the_place_of_a_link_out(export: Export, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    assert export.run([link("lib", str(outside)), file("lib/x", "x")]) == 0
    assert (export.tree / "lib/x").read_text() == "x" and not (export.tree / "lib").is_symlink()
    assert os.listdir(outside) == []


def test_nothing_is_written_through_a_link(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.run([file("lib/a/x", "x"), link("way", "lib/a")], [file("way/y", "y")]) == 1
    assert "/way is a symlink" in capsys.readouterr().err
    assert not export.own.exists()  # the first export: no links that lead nowhere


def test_a_damaged_layer_leaves_the_old_switch(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.run([file("lib/x", "before")]) == 0
    assert export.run([file("lib/x", "after")], [file("lib/y", "y")], damaged=1) == 1
    assert "p1.1 is damaged" in capsys.readouterr().err
    assert (export.prefix / "lib/x").read_text() == "before"
    assert sorted(os.listdir(export.tree.parent)) == ["lock", "switch"]
    assert sorted(os.listdir(export.own)) == ["env.sh", "switch"]


def test_the_place_of_a_switch_that_is_there(export: Export) -> None:
    """What a killed export left goes; the switch is another one, and nothing of the old one is left in it."""
    assert export.run([file("lib/x", "1"), file("lib/gone", "1")]) == 0
    (export.tree.parent / "new-00000000/lib").mkdir(parents=True)
    (export.tree / "mine").mkdir(mode=0o500)
    assert export.run([file("lib/x", "2")]) == 0
    assert export.files() == ["env.sh", "lib/x", "not-relocated.txt"]
    assert sorted(os.listdir(export.tree.parent)) == ["lock", "switch"]


@pytest.mark.parametrize("exchanged", [True, False])
def test_swap(tmp_path: Path, exchanged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanged:
        monkeypatch.setattr(swap, "_exchange", lambda one, other: False)
    for name in ("new", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "is").write_text(name)
    swap.put(tmp_path / "new", tmp_path / "place")
    assert (tmp_path / "place/is").read_text() == "new" and os.listdir(tmp_path) == ["place"]
    (tmp_path / "new").mkdir()
    swap.put(tmp_path / "new", tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["other", "place"]


def test_a_machine_that_lacks_something(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    """A real program is looked at, and not run."""
    real = Path("/bin/ls").read_bytes()
    assert export.run([file("bin/ls", real, 0o755)], check_host=True) == 0
    assert real.count(b"libc.so.6\0")
    broken = real.replace(b"libc.so.6\0", b"libq.so.6\0")
    assert export.run([file("bin/ls", broken, 0o755)], check_host=True, compiler="1.0") == 1
    said = capsys.readouterr().err
    assert "  * libq.so.6, which bin/ls needs" in said and "the OCaml 1.0" in said and "pants opam-exec" in said
    assert (export.tree / "bin/ls").read_bytes() == real
    assert export.run([file("bin/ls", broken, 0o755)], check_host=False) == 0
