"""What an image consists of, as SPDX 2.3 and as CycloneDX 1.5, both in JSON.

Names every opam package with license, source, checksum and what it needs, and every Debian package. The same image gives
the same bytes: the time is the image's, identifiers follow from names and digests. Sources: SPDX 2.3; CycloneDX 1.5;
package-url's types `opam`, `deb` and `oci`.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Callable, Dict, Iterable, List, Set, Tuple

from opam_oci.images.licenses import expression, is_listed
from opam_oci.images.package_urls import deb_purl, image_purl, opam_purl, url_part


@dataclass(frozen=True)
class Component:
    """A package. `id` is unique in the image; `sources`: (url, sha256 hex); `depends`: ids."""

    id: str
    name: str
    version: str
    purl: str
    licenses: Tuple[str, ...]
    homepage: str
    sources: Tuple[Tuple[str, str], ...]
    depends: Tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """An image: `digest` is its manifest's, `created` a time as RFC 3339 has it."""

    name: str
    digest: str
    created: str
    components: Tuple[Component, ...]

    @property
    def purl(self) -> str:
        """The image's package URL."""
        return image_purl(self.name, self.digest)


@dataclass(frozen=True)
class Format:
    """A kind of SBOM: `suffix` of its file's name, `document` makes its JSON."""

    suffix: str
    media_type: str
    document: Callable[[Contents], Dict[str, Any]]


@dataclass(frozen=True)
class OpamFacts:
    """What an SBOM says of an opam package: `licenses` and `homepage` as its opam file has them, `depends` are names, `sources`
    (url, sha256 hex)."""

    name: str
    version: str
    licenses: Tuple[str, ...]
    homepage: str
    depends: Tuple[str, ...]
    sources: Tuple[Tuple[str, str], ...]


@dataclass(frozen=True)
class DebFacts:
    """What an SBOM says of a Debian package. `sha256` of the .deb, in hex."""

    name: str
    version: str
    architecture: str
    sha256: str


def components_of(packages: Iterable[OpamFacts], debs: Iterable[DebFacts], suite: str) -> Tuple[Component, ...]:
    """The parts of an image: opam packages in their order, then Debian ones, each name and version once, sorted."""
    packages = tuple(packages)
    names = {package.name for package in packages}
    by_version = {(deb.name, deb.version): _deb(deb, suite) for deb in debs}
    return (*(_opam(package, names) for package in packages), *(by_version[key] for key in sorted(by_version)))


def base_component(name: str, purl: str, manifest: str) -> Component:
    """An image that others made, by its manifest's digest, "sha256:..."."""
    return Component(
        id="base-image",
        name=name,
        version=manifest,
        purl=purl,
        licenses=(),
        homepage="",
        sources=(("", manifest.partition(":")[2]),),
        depends=(),
    )


def _opam(package: OpamFacts, names: Set[str]) -> Component:
    homepage = readable(package.homepage)
    return Component(
        id=f"opam-{package.name}",
        name=package.name,
        version=package.version,
        purl=opam_purl(package.name, package.version),
        licenses=tuple(text for text in map(readable, package.licenses) if text.strip()),
        homepage=homepage if _is_url(homepage) else "",
        sources=tuple((readable(url), sha256) for url, sha256 in package.sources),
        depends=tuple(f"opam-{other}" for other in sorted(package.depends) if other in names),
    )


def _deb(deb: DebFacts, suite: str) -> Component:
    return Component(
        id=f"deb-{deb.name}",
        name=deb.name,
        version=deb.version,
        purl=deb_purl(deb.name, deb.version, deb.architecture, suite),
        licenses=(),
        homepage="",
        sources=(("", deb.sha256),),
        depends=(),
    )


def readable(text: str) -> str:
    """`text` without bytes that are no UTF-8: U+FFFD stands for each, as JSON has no place for them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_url(text: str) -> bool:
    return bool(re.match(r"https?://[^\s\"<>\\^`{|}]+\Z", text))


# SPDX


def _spdx(contents: Contents) -> Dict[str, Any]:
    references: Dict[str, str] = {}
    packages: List[Dict[str, Any]] = [
        {
            "SPDXID": "SPDXRef-image",
            "name": contents.name,
            "versionInfo": contents.digest,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "primaryPackagePurpose": "CONTAINER",
            "checksums": [{"algorithm": "SHA256", "checksumValue": contents.digest.partition(":")[2]}],
            "externalRefs": [_spdx_purl(contents.purl)],
        }
    ]
    relationships = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")]
    for component in contents.components:
        packages.append(_spdx_package(component, references))
        relationships.append(_relation("SPDXRef-image", "CONTAINS", _spdx_id(component.id)))
        relationships += [
            _relation(_spdx_id(component.id), "DEPENDS_ON", _spdx_id(other)) for other in component.depends
        ]
    document: Dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": contents.name,
        "creationInfo": {"created": contents.created, "creators": ["Tool: opam_sandbox"]},
        "packages": packages,
        "relationships": relationships,
    }
    if references:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": name, "name": text, "extractedText": text} for name, text in sorted(references.items())
        ]
    # Unique to what the document says, as SPDX wants it, and the same for the same.
    key = hashlib.sha256(encode(document)).hexdigest()
    document["documentNamespace"] = f"urn:spdx:{url_part(contents.name)}:{key}"
    return document


def _spdx_package(component: Component, references: Dict[str, str]) -> Dict[str, Any]:
    """A component; what it says of licenses that SPDX does not list is entered into `references`."""
    license = expression(component.licenses, references)
    url, sha256 = component.sources[0] if component.sources else ("", "")
    package: Dict[str, Any] = {
        "SPDXID": _spdx_id(component.id),
        "name": component.name,
        "versionInfo": component.version,
        "downloadLocation": url if _is_url(url) else "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": license or "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [_spdx_purl(component.purl)],
    }
    if sha256:
        package["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
    if component.homepage:
        package["homepage"] = component.homepage
    if len(component.sources) > 1:
        package["sourceInfo"] = "Further sources: " + ", ".join(
            f"{other} (sha256 {checksum})" for other, checksum in component.sources[1:]
        )
    return package


def _spdx_id(id: str) -> str:
    # `_` and `+` may stand in names, but not in identifiers.
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", lambda match: f".x{ord(match.group()):02x}.", id)


def _spdx_purl(purl: str) -> Dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}


def _relation(one: str, kind: str, other: str) -> Dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


# CycloneDX


def _cyclonedx(contents: Contents) -> Dict[str, Any]:
    purls = {component.id: component.purl for component in contents.components}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, contents.purl).urn,
        "version": 1,
        "metadata": {
            "timestamp": contents.created,
            "tools": {"components": [{"type": "application", "name": "opam_sandbox"}]},
            "component": {
                "type": "container",
                "bom-ref": contents.purl,
                "name": contents.name,
                "version": contents.digest,
                "purl": contents.purl,
            },
        },
        "components": [_cyclonedx_component(component) for component in contents.components],
        "dependencies": [
            {"ref": contents.purl, "dependsOn": sorted(purls.values())},
            *(
                {"ref": component.purl, "dependsOn": sorted(purls[other] for other in component.depends)}
                for component in contents.components
            ),
        ],
    }


def _cyclonedx_component(component: Component) -> Dict[str, Any]:
    result: Dict[str, Any] = {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
    }
    references: Dict[str, str] = {}
    license = expression(component.licenses, references)
    if references:
        result["licenses"] = [{"license": {"name": text}} for text in component.licenses]
    elif license:
        result["licenses"] = [{"license": {"id": license}} if is_listed(license) else {"expression": license}]
    external: List[Dict[str, Any]] = [
        {"type": "distribution", "url": url, "hashes": [{"alg": "SHA-256", "content": sha256}]}
        for url, sha256 in component.sources
        if _is_url(url)
    ]
    if component.homepage:
        external.append({"type": "website", "url": component.homepage})
    if external:
        result["externalReferences"] = external
    if component.sources and not component.sources[0][0]:  # a .deb is what is installed, an archive its source
        result["hashes"] = [{"alg": "SHA-256", "content": component.sources[0][1]}]
    return result


FORMATS = (
    Format("spdx.json", "application/spdx+json", _spdx),
    Format("cdx.json", "application/vnd.cyclonedx+json", _cyclonedx),
)


def encode(document: Dict[str, Any]) -> bytes:
    """A document as a file's content: JSON with sorted keys, an indentation of one blank."""
    lines = [f" {json.dumps(key)}: {_value_text(document[key])}" for key in sorted(document)]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _value_text(value: Any) -> str:
    """A value of the document. Python indents slowly, and most of what is in a list, such as the base's packages, is in the next
    image's document again: so the elements' texts are kept."""
    if not isinstance(value, list) or not value:
        return _indented(value, 1)
    return "[\n" + ",\n".join(f"  {_element_text(_compact(element))}" for element in value) + "\n ]"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@lru_cache(maxsize=8192)
def _element_text(compact: str) -> str:
    return _indented(json.loads(compact), 2)


def _indented(value: Any, depth: int) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).replace("\n", "\n" + " " * depth)
