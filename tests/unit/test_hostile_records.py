"""Records that packages' scripts, other processes and damaged disks leave: the right value, or an error that names them.

tests/fuzz looks for more of these. Here is what was found, and what it means now.
"""

from __future__ import annotations

import json
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, Dict, List

import pytest

from opam_sandbox import accounts, deb822, dpkg
from opam_sandbox.building import mmdebstrap
from opam_sandbox.elf import read_elf
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.files import write_json
from opam_sandbox.layer.description import read_layer
from opam_sandbox.layer.merge_accounts import merge
from opam_sandbox.opam.package import read_package
from opam_sandbox.request import safe_name, safe_path
from tests.fuzz.elf import SEEDS as ELF_FILES
from tests.fuzz.layer_json import _LAYER

LONG = 100_000

# dpkg


def test_a_field_of_many_lines() -> None:
    lines = [f"line {number}" for number in range(LONG)]
    text = "Package: a\nDescription: first\n " + "\n ".join(lines) + "\nVersion: 1"
    found = deb822.fields(text)
    assert found == {"Package": "a", "Description": "\n".join(["first", *lines]), "Version": "1"}


def test_lines_that_belong_to_no_field() -> None:
    assert deb822.fields(" lost\nA: 1\n kept\nnonsense\n\tkept too\nA: 2") == {"A": "2"}


def test_many_triggers(tmp_path: Path) -> None:
    lines = [f"/x{number} a" for number in range(LONG)]
    assert dpkg.merge(tmp_path, [{"triggers": lines}, {"triggers": [*lines, "/y b", "/y b"]}])
    assert dpkg.read_triggers(tmp_path) == [*lines, "/y b"]


def test_bytes_that_are_no_text_go_through_a_layers_description(tmp_path: Path) -> None:
    """A maintainer's name in Latin-1, as a build finds it."""
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_bytes(b"Package: a\nArchitecture: all\nMaintainer: J\xf6rg\n\n")
    fields = {**_LAYER, "dpkg": dpkg.difference(dpkg.Database({}, {}), tmp_path)}
    write_json(str(tmp_path / "layer.json"), fields)
    assert b"J\\udcf6rg" in (tmp_path / "layer.json").read_bytes()
    status.unlink()
    dpkg.merge(tmp_path, [read_layer(tmp_path).dpkg])
    assert b"Maintainer: J\xf6rg\n" in status.read_bytes()


def test_a_deb_does_not_say_where_its_file_is() -> None:
    control = b"Package: a\nFilename: ../../x\n more\nsha256 : 00\nDescription: d\n  Filename: y\nSIZE: 1\nVersion: 1\n"
    assert mmdebstrap._own_fields(control) == b"Package: a\nDescription: d\n  Filename: y\nVersion: 1"


# accounts


def image(top: Path, *passwd: str) -> List[Path]:
    """Layers with these files, and the topmost's as a view in front of them."""
    roots = [top / str(number) for number in range(len(passwd) + 1)]
    for root, text in zip(roots, (passwd[-1], *passwd)):
        (root / "etc").mkdir(parents=True)
        (root / "etc/passwd").write_text(text)
    return roots


BASE = "root:x:0:0::/:/bin/sh\n"


@pytest.mark.parametrize(
    "odd", ["a\n", "a:x\n", ":\n", "a:x:\n", "a:x:1:\0\n", "a:\r\n", "+\n", "a:x:-1:" + "9" * 5000 + "\n"], ids=range(8)
)
def test_lines_with_too_few_fields(tmp_path: Path, odd: str) -> None:
    view, *layers = image(tmp_path, BASE, BASE, BASE + "a:x:100:100::/:/bin/sh\n" + odd + "b:x:5:5\n", BASE + odd)
    merge(view, layers)
    assert (view / "etc/passwd").read_bytes().decode() == {
        True: BASE + odd + "b:x:5:5\n",
        False: BASE + odd + "a:x:100:100::/:/bin/sh\nb:x:5:5\n",
    }[odd.startswith("a")]


def test_a_second_entry_of_a_name_stays(tmp_path: Path) -> None:
    twice = BASE + "toor:x:0:0::/:/bin/sh\ntoor:x:7:7::/:/bin/sh\n"
    view, *layers = image(
        tmp_path, twice, twice, twice + "a:x:100:100::/:/bin/sh\n", twice + "b:x:101:101::/:/bin/sh\n"
    )
    assert merge(view, layers) == ["passwd"]
    assert (view / "etc/passwd").read_text() == twice + "b:x:101:101::/:/bin/sh\na:x:100:100::/:/bin/sh\n"


def test_no_number_is_free(tmp_path: Path) -> None:
    """Two accounts with one number would own each other's files."""
    full = BASE + "".join(f"u{number}:x:{number}:1::/:/bin/sh\n" for number in range(100, 1000))
    view, *layers = image(tmp_path, BASE, BASE, BASE + "a:x:100:1::/:/bin/sh\n", full)
    with pytest.raises(ToolError, match=r"^/etc/passwd: several layers give the number '100' .* is free for 'a'$"):
        merge(view, layers)
    assert (view / "etc/passwd").read_text() == full


def test_many_accounts_and_members(tmp_path: Path) -> None:
    entries = "".join(f"u{number}:x:{1000 + number}:1::/:/bin/sh\n" for number in range(20_000))
    view, *layers = image(tmp_path, BASE, BASE, BASE + entries, BASE + "z:x:100:1::/:/bin/sh\n")
    merge(view, layers)
    assert (view / "etc/passwd").read_text() == BASE + "z:x:100:1::/:/bin/sh\n" + entries
    for root, last in ((view, "b"), (layers[-2], "a"), (layers[-1], "b")):
        members = ",".join(f"{last}{number}" for number in range(20_000))
        (root / "etc/group").write_text(f"g:x:5:{members}\n")
    merge(view, layers)
    [line] = (view / "etc/group").read_text().splitlines()
    assert line.startswith("g:x:5:b0,b1,") and line.endswith(",a19999") and line.count(",") == 39_999


def test_an_account_is_a_line_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(BASE + "a:x:7:7:name\u2028opam:x:1000:1000::/:/bin/sh\n", encoding="utf-8")
    assert not accounts.has_user(tmp_path)


# ELF


def changed(data: bytes, at: int, form: str, *values: int) -> bytes:
    new = struct.pack(form, *values)
    return data[:at] + new + data[at + len(new) :]


def test_elf_names_that_are_no_utf8() -> None:
    """The dynamic linker takes any bytes; a library that is not followed would be missing in the image."""
    elf = read_elf(BytesIO(ELF_FILES[0].replace(b"libm.so.6", b"lib\xff.so.6")))
    assert elf is not None and elf.needed == ("libc.so.6", "lib\udcff.so.6")
    assert elf.paths == ("$ORIGIN/../lib", "/opt/lib") and elf.interpreter == "/lib64/ld-linux-x86-64.so.2"


def test_elf_that_names_itself_many_times() -> None:
    """65,535 interpreters, each of them the whole file; as many libraries, each a string up to its end."""
    head = changed(ELF_FILES[0][:64], 32, "<Q", 64)
    row = struct.pack("<IIQQQQQQ", 3, 5, 0, 0, 0, 4 << 20, 0, 0)
    assert read_elf(BytesIO(changed(head, 56, "<H", 65535) + row * 65535)) is None
    dynamic = struct.pack("<qQ", 1, 0) * 50_000 + struct.pack("<qQqQ", 5, 0, 10, 1 << 20)
    rows = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 1 << 22, 0, 0)
    rows += struct.pack("<IIQQQQQQ", 2, 5, 176, 0, 0, len(dynamic), 0, 0)
    whole = changed(head, 56, "<H", 2) + rows + dynamic + b"a" * (1 << 21)
    assert read_elf(BytesIO(whole)) is None


@pytest.mark.parametrize("at", [1 << 20, 1 << 63, (1 << 64) - 1])
def test_elf_parts_beyond_the_end(at: int) -> None:
    """As debuggers' files have them: of what is loaded, only what is there is looked at."""
    head = changed(changed(ELF_FILES[0][:64], 32, "<Q", 64), 56, "<H", 2)
    rows = struct.pack("<IIQQQQQQ", 1, 5, at, 0, 0, 1 << 63, 0, 0) + struct.pack("<IIQQQQQQ", 1, 5, 16, 0, 0, at, 0, 0)
    elf = read_elf(BytesIO(head + rows))
    assert elf is not None and elf.loaded == ((16, 64 + len(rows) - 16),)


# requests and layers


@pytest.mark.parametrize(
    "path", ["a" * 256, "d/" + "ä" * 128, "a/" * 2000 + "b", ".", "./.", "\ud800", "a\0b", "", "/a", "a/../b"]
)
def test_paths_that_no_file_has(path: str) -> None:
    with pytest.raises(RequestError) as raised:
        safe_path(path)
    assert len(str(raised.value)) < 300
    with pytest.raises(RequestError):
        read_package({"name": "a", "version": "1", "opam": "", "files": [{"path": path, "content": ""}]})


def test_names_that_no_file_has() -> None:
    for name in ("a" * 256, "\ud800", "a/b", "..", ""):
        with pytest.raises(RequestError):
            safe_name(name)
    assert safe_name("a" * 255) and safe_path("d/" + "ä" * 127) and safe_name("\udcff")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"opam": {}}, "which package it is"),
        ({"size": -1}, "negative"),
        ({"files": -1}, "negative"),
        ({"name": "\ud800"}, "no text"),
        ({"dpkg": {"status": {"a": "\udfff\ud800"}}}, "no text"),
        ({"digest": "sha256:" + "x" * 64}, "not a digest"),
        ({"kind": "x" * LONG}, "should be one of"),
        ({"x" * LONG: 1}, "unknown"),
    ],
)
def test_descriptions_that_describe_no_layer(tmp_path: Path, change: Dict[str, Any], problem: str) -> None:
    (tmp_path / "layer.json").write_text(json.dumps({**_LAYER, **change}))
    with pytest.raises(RequestError, match=problem) as raised:
        read_layer(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}/layer.json does not describe a layer: ")
    assert len(str(raised.value)) < 1000
