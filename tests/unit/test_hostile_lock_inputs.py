"""What the steps of locking read: apt's and opam's answers, lists, archives, opam files. tests/fuzz looks for more."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, List

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.locking import apt, apt_lists, cache, indexes, lock_debs, mirrors, repositories, toml_writer
from opam_sandbox.locking.apt_lists import Lists, SourceFile
from opam_sandbox.locking.repositories import Packages, package_files, parse_variables
from opam_sandbox.locking.solve import parse_requirement, read_answer
from opam_sandbox.locking.sources import OutOfReach, SourceFinder
from opam_sandbox.locking.wanted_sources import Wanted, wanted_sources
from opam_sandbox.opam import opamfile
from opam_sandbox.opam.strings import quote
from tests.support.file_server import file_server

LONG = 100_000


def test_requirements_of_many_bounds() -> None:
    """Between two bounds, a blank is one blank: there are not two ways for each to read it."""
    text = "a" + " = 5 <4" * 2000
    assert parse_requirement(text) == ("a", [("=", "5"), ("<", "4")] * 2000)
    with pytest.raises(ToolError, match="is not an opam requirement"):
        parse_requirement(text + " !")
    with pytest.raises(ToolError, match="is not an opam requirement"):
        parse_requirement("a" + " " * LONG + "!")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[" * LONG,
        "[]",
        '{"solution": 1}',
        '{"solution": [1]}',
        '{"solution": ["install"]}',
        '{"solution": [{"install": {"name": "a"}}]}',
        '{"solution": [{"install": {"name": 1, "version": "1"}}]}',
        '{"solution": [{"install": {"name": "../a", "version": "1"}}]}',
        '{"solution": [{"install": {"name": "a", "version": "' + "1" * 300 + '"}}]}',
    ],
    ids=range(11),
)
def test_answers_of_opam_that_are_none(text: "str | None") -> None:
    with pytest.raises(ToolError, match="^opam's answer is not understood") as raised:
        read_answer(text)
    assert len(str(raised.value)) < 400


def test_variables() -> None:
    text = "os-family   debian  # x\narch  x # y # z\njobs # none\nmake\n  # ?\nlong " + " " * LONG + "\nroot /a b # c"
    assert parse_variables(text) == {"os-family": "debian", "arch": "x", "root": "/a b"}


def test_debs_of_no_mirror() -> None:
    line = "'file:/root/x.deb' x_1_amd64.deb 5 SHA256:00"
    with pytest.raises(ToolError, match=r"^file:/root/x\.deb is of no mirror's pool"):
        apt.parse_uri_line(line, "https://example.org/debian")
    assert apt.parse_uri_line(line.replace(" 5 ", f" {'9' * 5000} "), "https://example.org/debian") is None


def read_sources(directory: Path, content: bytes) -> List[SourceFile]:
    (directory / "lists").mkdir(exist_ok=True)
    (directory / "lists/m_Sources").write_bytes(content)
    return list(apt_lists.source_files(Lists(directory, "amd64")))


@pytest.mark.parametrize(
    "field",
    [
        b"Files:\n 00 5",
        b"Files:\n 00 5 a b",
        b"Files:\n 00 -5 a",
        b"Files:\n 00 " + b"9" * 5000 + b" a",
        b"Directory: a\tb\nFiles:\n 00 5 x",
        b"Directory: a\x1fb\nFiles:\n 00 5 x",
        b"Directory: a\xe2\x80\xa8b\nFiles:\n 00 5 x",
        b"Directory: \xff\nFiles:\n 00 5 x",
    ],
    ids=range(8),
)
def test_lists_of_sources_that_are_damaged(tmp_path: Path, field: bytes) -> None:
    with pytest.raises(ToolError, match="^m_Sources cannot be read as a list of Debian's sources: "):
        read_sources(tmp_path, b"Package: p\n" + field + b"\n")


def test_a_list_of_sources_goes_through_its_index(tmp_path: Path) -> None:
    files = read_sources(
        tmp_path, b"Directory: pool/a b\nFiles:\n 00 5 x\xc2\xa0\n 01 6 y\xff\nChecksums-Sha256:\n ab 6 y\xff\n"
    )
    path = tmp_path / "sources.txt"
    cache.write_whole(path, "".join(map(indexes.source_line, files)))
    assert list(indexes.read_source_index(path, {"00", "ab"}, set(), set())) == files and len(files) == 2


@pytest.mark.parametrize("content", ["[" * LONG, "1", '{"debs": 1}', '{"debs": [{"name": "a"}]}', '{"error": 1}', ""])
def test_a_damaged_memory_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    found = cache.Memo(tmp_path).get("key")
    assert found is None or not apt._is_answer(found)


def test_a_whole_memory() -> None:
    deb = {"name": "a", "version": "1", "architecture": "amd64", "path": "p", "sha256": "00", "size": 1}
    assert apt._is_answer({"debs": [deb]}) and apt._is_answer({"debs": []}) and apt._is_answer({"error": "no"})


def archive(directory: Path, change: Any) -> Path:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.1/opam", b"x: 1\n" * 100)
    path = directory / "packages.zip"
    path.write_bytes(change(out.getvalue()))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:40] + b"\xff" * 8 + data[48:],
        lambda data: data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"),
        lambda data: data.replace(b"\x00\x00\x08\x00", b"\x00\x00\x63\x00"),
    ],
    ids=["content", "encrypted", "method"],
)
def test_a_damaged_archive_of_packages(tmp_path: Path, change: Any) -> None:
    path = archive(tmp_path, change)
    with pytest.raises((ToolError, *repositories.DAMAGED)) as raised:
        Packages(path).package("a", "1")
    if isinstance(raised.value, ToolError):
        assert str(raised.value).startswith("what was prepared of the repositories is damaged: 'a.1/opam': ")


def test_a_file_that_no_lockfile_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "_LARGEST_FILE", 10)
    (tmp_path / "packages/a.1").mkdir(parents=True)
    (tmp_path / "packages/a.1/opam").write_text("x: 12345\n")
    assert len(list(package_files([("r", tmp_path)]))) == 1
    (tmp_path / "packages/a.1/opam").write_text("x: 12345678\n")
    with pytest.raises(ToolError, match=r"^the opam repository 'r': packages/a\.1/opam has more than 10 bytes"):
        list(package_files([("r", tmp_path)]))


@pytest.mark.parametrize(
    "url", ["https://[x", "https://x y\n/", "nonsense", "http://127.0.0.1:99999/", "https://\udcff/"]
)
def test_sources_that_are_no_urls(url: str) -> None:
    [wanted] = wanted_sources(opamfile.parse(f'url {{ src: {quote(url)} checksum: "md5={"0" * 32}" }}', "a.1"), "a.1")
    with pytest.raises(OutOfReach, match=r"^a\.1: its (archive cannot be had:\n|source nonsense is neither http)"):
        SourceFinder([], [], []).lock("a.1", wanted)


def test_an_archive_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "_LARGEST", 5)
    with file_server() as server:
        server.files = {"/a": b"123456"}
        with pytest.raises(OutOfReach, match="it has more than 0 GiB, or no end"):
            SourceFinder([], [], []).lock("a.1", Wanted("", (f"{server.url}/a",), (("md5", "0" * 32),)))


@pytest.mark.parametrize("values", [{"name": "a", "urls": ["\udcff"]}, {"path": "\ud800"}, {"opam": 'a\n"""\udcff'}])
def test_what_is_no_text_is_in_no_lockfile(values: Any) -> None:
    with pytest.raises(ToolError, match=r"^what a lockfile holds is UTF-8 text: of \[\[x\]\] "):
        toml_writer.table("[[x]]", values)


@pytest.mark.parametrize(
    "name", ["/root/x.deb", "./x.deb", "gcc-", "?installed", "~n.", "a b", "gcc=1", "gcc/sid", "-o", "t^", "A", ""]
)
def test_depexts_that_apt_takes_for_something_else(name: str) -> None:
    with pytest.raises(ToolError, match="is not the name of a Debian package$"):
        lock_debs.check_names(["gcc", name])


def test_depexts() -> None:
    lock_debs.check_names(["g++", "libstdc++6", "libc6:i386", "python3.11", "0ad", "libgtk-3-dev", "libsigc++-2.0-dev"])


def test_answers_are_json(tmp_path: Path) -> None:
    cache.Memo(tmp_path).put("key", {"error": "\udcff"})
    _, _, text = (tmp_path / "key").read_text().partition("\n")
    assert json.loads(text) == cache.Memo(tmp_path).get("key") == {"error": "\udcff"}
