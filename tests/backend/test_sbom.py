"""SBOMs: valid by other people's validators, the same for the same image, and true to what opam files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from opam_oci.images import sbom_documents as sbom
from opam_oci.images.licenses import _EXCEPTIONS, _IDS, expression
from opam_oci.images.sbom_documents import DebFacts, OpamFacts
from opam_oci.layers.opam_text import OpamTextError, strings_of_field
from opam_sandbox.errors import ToolError
from opam_sandbox.opam import formulas, opamfile

DIGEST = "sha256:" + "0" * 64
CREATED = "1970-01-01T00:00:01Z"


def package(
    name: str, licenses: Sequence[str] = (), homepage: str = "", depends: Sequence[str] = (), sources: int = 1
) -> OpamFacts:
    found = tuple((f"https://example.org/{n}.tgz", f"{n}" * 64) for n in range(sources))
    return OpamFacts(name, "1.0~rc1+x", tuple(licenses), homepage, tuple(depends), found)


def deb(name: str) -> DebFacts:
    return DebFacts(name, "4:14.2.0-1+b1", "amd64", "a" * 64)


PACKAGES = [
    package("lwt", ["MIT"], "https://example.org/lwt", ["base-unix", "odd_name"]),
    package("base-unix", sources=0),
    package("odd_name", ["LGPL-2.1-only with OCaml-LGPL-linking-exception", "Public domain"], sources=3),
    package("0install", ["LGPL-2.1-or-later AND (MIT OR bsd-3-clause)"], "not a url", ["lwt", "elsewhere"]),
]


def contents() -> sbom.Contents:
    return sbom.Contents("0install", DIGEST, CREATED, sbom.components_of(PACKAGES, [deb("gcc"), deb("gcc")], "trixie"))


def documents() -> Dict[str, Any]:
    return {form.suffix: form.document(contents()) for form in sbom.FORMATS}


def test_spdx_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "sbom.spdx.json"
    path.write_bytes(sbom.encode(documents()["spdx.json"]))
    found = validate_full_spdx_document(parse_file(str(path)))
    assert [message.validation_message for message in found] == []


def test_cyclonedx_is_valid() -> None:
    text = sbom.encode(documents()["cdx.json"]).decode()
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None


def test_what_it_says() -> None:
    spdx = {one["name"]: one for one in documents()["spdx.json"]["packages"]}
    assert spdx["lwt"]["licenseDeclared"] == "MIT" and spdx["lwt"]["homepage"] == "https://example.org/lwt"
    assert spdx["lwt"]["downloadLocation"] == "https://example.org/0.tgz"
    assert spdx["lwt"]["checksums"] == [{"algorithm": "SHA256", "checksumValue": "0" * 64}]
    assert spdx["lwt"]["externalRefs"][0]["referenceLocator"] == "pkg:opam/lwt@1.0~rc1%2Bx"
    assert spdx["base-unix"]["licenseDeclared"] == "NOASSERTION"
    assert "LicenseRef-Public-domain" in spdx["odd_name"]["licenseDeclared"]
    assert "homepage" not in spdx["0install"]
    purl = "pkg:deb/debian/gcc@4:14.2.0-1%2Bb1?arch=amd64&distro=trixie"
    assert spdx["gcc"]["externalRefs"][0]["referenceLocator"] == purl
    cdx = documents()["cdx.json"]
    refs = {one["ref"]: one["dependsOn"] for one in cdx["dependencies"]}
    assert refs["pkg:opam/0install@1.0~rc1%2Bx"] == ["pkg:opam/lwt@1.0~rc1%2Bx"]


def test_the_text_is_json_indented_by_one() -> None:
    """Whatever was written before."""
    for _ in range(2):
        for document in (*documents().values(), {"a": [], "b": [[1, {"c": "é\n"}], "x"], "d": {"e": [1, {"f": []}]}}):
            expected = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
            assert sbom.encode(document).decode() == expected


def test_same_bytes_and_no_time_or_chance() -> None:
    assert json.dumps(documents()) == json.dumps(documents())
    assert "uuid" in documents()["cdx.json"]["serialNumber"]


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["mit"], "MIT"),
        (["MIT", "ISC"], "MIT AND ISC"),
        (["MIT OR ISC", "ISC"], "(MIT OR ISC) AND ISC"),
        (["GPL-2.0+"], "GPL-2.0+"),
        (["BSD"], "LicenseRef-BSD"),
        (["LicenseRef-Mine"], "LicenseRef-Mine"),
        (["( MIT or ISC"], "LicenseRef-MIT-or-ISC"),
        ([], ""),
    ],
)
def test_licenses(licenses: List[str], expected: str) -> None:
    assert expression(licenses, {}) == expected


def test_a_license_of_blanks_takes_no_time() -> None:
    # Time that grows with the square of this would be minutes.
    assert expression(["MIT" + " " * 400_000 + "or" + " " * 400_000 + "ISC"], {}) == "MIT OR ISC"
    assert expression([" " * 400_000 + '"'], {}).startswith("LicenseRef-")


def test_the_lists_are_spdx() -> None:
    for name in _IDS:
        get_spdx_licensing().parse(name, validate=True)
    assert set(_EXCEPTIONS) <= set(get_spdx_licensing().known_symbols)


@given(st.lists(st.text(alphabet="()ANDORWITH MIT-ISC+", max_size=20), max_size=3))
def test_any_text_becomes_an_expression(licenses: List[str]) -> None:
    references: Dict[str, str] = {}
    text = expression(licenses, references)
    if text:
        symbols = get_spdx_licensing().parse(text, validate=False).symbols
        assert all(str(one).startswith("LicenseRef-") or "WITH" in str(one) or str(one).rstrip("+") for one in symbols)


OPAM_FILES = [
    'license: "MIT"\nhomepage: ["https://a.example" {os = "linux"} "b"]\n',
    'opam-version: "2.0"\nlicense: [ "MIT" ("ISC" ["BSD"]) ] # license: "no"\n(* license: "nor" (* this *) *)\n',
    'license: "a"\nx: [ license "b" ]\nlicense: "c"\nurl { license: "d" }\n',
    'license: """a "b" \\n""" homepage:"\\x41\\195\\169\\255\\256 \\\n   b\\t\\q"\n',
    'license: ""\nhomepage: """"""\n',
    "license: MIT\nhomepage: []\n",
    'maintainer: "who has no license"\n',
    "",
]


@pytest.mark.parametrize("text", OPAM_FILES)
def test_fields_are_what_the_tool_reads(text: str) -> None:
    """The backend has a reader of its own."""
    for name in ("license", "homepage"):
        read = [formulas.strings(item.value) for item in opamfile.parse(text, "opam") if item.name == name]
        assert list(strings_of_field(text, name)) == (read[-1] if read else [])


def test_fields_of_all_packages_here() -> None:
    files = sorted(Path("3rdparty/opam").rglob("opam"))
    assert len(files) > 20
    for file in files:
        test_fields_are_what_the_tool_reads(file.read_text())


@pytest.mark.parametrize("text", ['license: "a', 'license: ["a"', "license }", '(* license: "a"', '"license"'])
def test_what_is_no_opam_file(text: str) -> None:
    with pytest.raises(ToolError):
        opamfile.parse(text, "opam")
    with pytest.raises(OpamTextError):
        strings_of_field(text, "license")
