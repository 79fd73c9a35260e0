"""SBOMs: valid by other people's validators, the same for the same image, and true to what opam files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from opam_sandbox.imaging import sbom
from opam_sandbox.imaging.licenses import _EXCEPTIONS, _IDS, expression
from opam_sandbox.layer.description import Layer

DIGEST = "sha256:" + "0" * 64
CREATED = "1970-01-01T00:00:01Z"


def package(name: str, opam: str = "", depends: List[str] = [], sources: int = 1) -> Dict[str, Any]:  # noqa: B006
    return {
        "name": name,
        "version": "1.0~rc1+x",
        "opam": f'opam-version: "2.0"\n{opam}',
        "depends": depends,
        "sources": [{"url": f"https://example.org/{n}.tgz", "sha256": f"{n}" * 64} for n in range(sources)],
    }


def deb(name: str, optional: bool = False) -> Dict[str, Any]:
    version = "4:14.2.0-1+b1"
    return {"name": name, "version": version, "architecture": "amd64", "sha256": "a" * 64, "optional": optional}


PACKAGES = [
    package("lwt", 'license: "MIT"\nhomepage: "https://example.org/lwt"', ["base-unix", "odd_name"]),
    package("base-unix", sources=0),
    package("odd_name", 'license: ["LGPL-2.1-only with OCaml-LGPL-linking-exception" "Public domain"]', sources=3),
    package("0install", 'license: "LGPL-2.1-or-later AND (MIT OR bsd-3-clause)"\nhomepage: "not a url"', ["lwt"]),
]


def contents(*layers: Layer) -> sbom.Contents:
    request: Any = {
        "name": "0install",
        "suite": "trixie",
        "packages": PACKAGES,
        "debs": [deb("gcc"), deb("libc6", True)],
    }
    return sbom.read_contents(request, layers, DIGEST, CREATED)


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
    assert "libc6" not in spdx  # optional, and no layer has it
    cdx = documents()["cdx.json"]
    refs = {one["ref"]: one["dependsOn"] for one in cdx["dependencies"]}
    assert refs["pkg:opam/0install@1.0~rc1%2Bx"] == ["pkg:opam/lwt@1.0~rc1%2Bx"]


def test_debian_packages_that_a_layer_has_parts_of() -> None:
    layer = Layer(Path("l"), "package", "runtime", "", DIGEST, DIGEST, 1, "", 1, {}, {"status": {"libc6:amd64": "P"}})
    assert "libc6" in [component.name for component in contents(layer).components]


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
