"""What packages say of themselves, in the SBOMs: both documents are JSON in UTF-8, their identifiers are unique."""

from __future__ import annotations

import json
from typing import List

from opam_oci.images import sbom_documents as sbom
from opam_oci.images.sbom_documents import DebFacts, OpamFacts
from opam_oci.layers.opam_text import OpamTextError, strings_of_field

SEEDS: List[bytes] = [
    b'opam-version: "2.0"\nlicense: ["MIT" "LGPL-2.1-only WITH OCaml-LGPL-linking-exception" "(ISC OR Apache-2.0+)"]\n',
    b'license: "my own words"\nhomepage: "https://example.org/"\n',
    b'license: ["A B" "A-B" "\xff" "a\xffb" "LicenseRef-x" "\x00"]\nhomepage: ["http://\xc3\xa9/"]\n',
]
TOKENS = b'license: homepage: WITH AND OR ( ) + MIT LicenseRef-x LicenseRef- \\\\000 \\\\255 https:// " [ ]'.split()


def run(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        licenses, homepage = strings_of_field(text, "license"), strings_of_field(text, "homepage")
    except OpamTextError:
        return
    sources = ((text, "ab" * 32), (text, "ab" * 32))
    packages = [
        OpamFacts("a", "1", licenses, "".join(homepage[:1]), ("b", "nowhere"), sources),
        OpamFacts("b", "1", licenses, "".join(homepage[-1:]), ("a",), ()),
    ]
    components = sbom.components_of(packages, [DebFacts("gcc", "1", "amd64", "ab" * 32)], "trixie")
    contents = sbom.Contents("image", "sha256:" + "ab" * 32, "1970-01-01T00:00:01Z", components)
    for form in sbom.FORMATS:
        encoded = sbom.encode(form.document(contents))
        assert encoded == sbom.encode(form.document(contents))
        document = json.loads(encoded.decode("utf-8"))
        if form.suffix == "spdx.json":
            ids = [package["SPDXID"] for package in document["packages"]]
            assert len(ids) == len(set(ids))
            _check_licenses(document)


def _check_licenses(document: "dict[str, object]") -> None:
    """Every reference is explained, and no text is lost."""
    infos = document.get("hasExtractedLicensingInfos", [])
    assert isinstance(infos, list)
    known = {info["licenseId"]: info["extractedText"] for info in infos}
    packages = document["packages"]
    assert isinstance(packages, list)
    for package in packages:
        words = package["licenseDeclared"].replace("(", " ").replace(")", " ").split()
        assert {word for word in words if word.startswith("LicenseRef-")} <= set(known)
    assert len(known) == len(set(known.values()))
