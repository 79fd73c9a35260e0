"""package_files: a package's directory means what it means to opam, and what opam would pass over is an error."""

from __future__ import annotations

import hashlib
from typing import Dict, List, Optional

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.locking import check_by_opam
from opam_sandbox.locking.package_files import File, PackageFiles, check_extra_files, opam_text
from opam_sandbox.locking.wanted_sources import Wanted, wanted_sources
from opam_sandbox.opam import opamfile

OPAM = b'opam-version: "2.0"\nmaintainer: "me"'
SUM = "ab" * 16


def text_of(opam: bytes, url: Optional[bytes] = None, descr: Optional[bytes] = None) -> "tuple[str, List[str]]":
    return opam_text(PackageFiles(opam, url, descr, []), "a.1")


def test_an_opam_file_alone_stays_as_it_is() -> None:
    opam = OPAM + b'\ndescription: "\xe9"\n\n'
    assert text_of(opam) == (opam.decode("utf-8", "surrogateescape"), [])


@pytest.mark.parametrize(
    "url",
    [
        f'src: "https://h/a.tgz"\nmirrors: ["https://m/a.tgz"]\nchecksum: ["md5={SUM}"]',
        f'archive: "https://h/a.tgz"\nmirrors: "https://m/a.tgz"\nchecksum: "{SUM}"',
        f'http: "https://h/a.tgz" mirrors: ["https://m/a.tgz"] checksum: ["{SUM}"]',
    ],
)
def test_a_file_url_is_a_section(url: str) -> None:
    """As opam 1 wrote it, and as opam 2 still reads it."""
    text, notes = text_of(OPAM, url.encode(), b'what it is\n\nmore \\ "of" it\nand \xe9\n')
    items = opamfile.parse(text, "t")
    expected = Wanted("", ("https://h/a.tgz", "https://m/a.tgz"), (("md5", SUM),))
    assert wanted_sources(items, "a.1") == [expected] and notes == []
    found = {item.name: item.value for item in items}
    assert found["synopsis"] == opamfile.Str("what it is")
    assert found["description"] == opamfile.Str('more \\ "of" it\nand \udce9')


def test_the_opam_files_own_fields_win() -> None:
    opam = OPAM + b'\nsynopsis: "mine"\nurl { src: "https://h/a" }\n'
    text, notes = text_of(opam, b'src: "https://h/b"', b"other")
    assert text == opam.decode()
    assert notes == ["a.1: its file `url` is passed over, as opam does, since its opam file has a url section."]


@pytest.mark.parametrize(
    ("opam", "url", "message"),
    [
        (OPAM, b"src: [", "a.1: file url: line 1"),
        (OPAM, b'git: "https://h/a.git"', "a.1: its file `url` has 'git', which is not locked"),
        (
            b'opam-version: "2.1"',
            None,
            "a.1: its opam file is of the format '2.1', of which opam would make a package wi",
        ),
        (b'opam-version: "2.2"', None, 'write opam-version: "2.0"'),
    ],
)
def test_what_opam_passes_over(opam: bytes, url: Optional[bytes], message: str) -> None:
    with pytest.raises(ToolError) as raised:
        text_of(opam, url)
    assert message in str(raised.value)


def checked(extra: str, contents: Dict[str, bytes], version: str = "2.3.0") -> List[str]:
    files: List[File] = [(path, content, False) for path, content in contents.items()]
    items = opamfile.parse(f"extra-files: {extra}" if extra else "", "t")
    return check_extra_files(items, files, "a.1", {"opam-version": version})


def test_extra_files() -> None:
    sums = {kind: hashlib.new(kind, b"x").hexdigest() for kind in ("md5", "sha256", "sha512")}
    for kind, value in sums.items():
        assert checked(f'["f" "{kind}={value.upper()}"]', {"f": b"x"}) == []
    assert checked(f'[["f" "{sums["md5"]}"] ["d/g" "md5={sums["md5"]}"]]', {"f": b"x", "d/g": b"x"}) == []
    with pytest.raises(ToolError, match="a.1: its opam file has 'g' in `extra-files`, but there is no file files/g"):
        checked(f'[["g" "md5={sums["md5"]}"]]', {"f": b"x"})
    with pytest.raises(ToolError, match="a.1: files/f has the sha256 .*, but `extra-files` of its opam file says"):
        checked(f'[["f" "sha256={sums["sha256"]}"]]', {"f": b"y"})
    with pytest.raises(ToolError, match="'sha1=00' for f, which is no checksum of opam's"):
        checked('[["f" "sha1=00"]]', {"f": b"x"})


def test_files_that_opam_gives_to_no_build() -> None:
    [note] = checked("", {"f": b"x"})
    assert "a.1: files/f: not in `extra-files` of its opam file" in note
    assert checked("", {"f": b"x"}, "2.1.2") == []


def test_what_lint_says() -> None:
    """Output of opam 2.3: what matters of it is what would be built otherwise."""
    printed = """/home/opam/opam-files/b.1/opam: Errors.
             error  3: File format error in 'build' at line 2, column 0: expected ident-or-string
             error 23: Missing field 'maintainer'
           warning 25: Missing field 'authors'
/home/opam/opam-files/d.1.2~rc/opam: Errors.
             error  3: File format error in 'maintainer' at line 3, column 0: Duplicate field maintainer
/home/opam/opam-files/v.1/opam: Errors.
             error  2: File format error: unsupported or missing file format version; should be 2.0 or older
/home/opam/opam-files/w.1/opam: Passed.
"""
    own = {"b.1": "src/b.opam", "w.1": "src/w.opam"}
    assert check_by_opam.problems_of(printed, own) == [
        "src/b.opam: File format error in 'build': expected ident-or-string",
        "v.1: File format error: unsupported or missing file format version; should be 2.0 or older",
    ]
    assert check_by_opam.problems_of(printed, {}) == [
        "b.1: File format error in 'build' at line 2, column 0: expected ident-or-string",
        "v.1: File format error: unsupported or missing file format version; should be 2.0 or older",
    ]
