"""What an image was made of, as a statement in JSON: SLSA's provenance v1 as the predicate of in-toto's statement v1.

The same image, made of the same, gives the same bytes: there is nothing of the run, the machine or the time in it, and nobody
has signed it. Sources: in-toto's attestation framework v1 (statement, resource descriptor, digest set); SLSA provenance v1;
package-url's types `opam`, `deb` and `oci`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence
from urllib.parse import quote

from opam_oci.images.package_urls import deb_purl, image_purl, opam_purl
from opam_oci.images.sbom_documents import encode, readable
from opam_oci.resolves.lockfile import Deb, LockedPackage

# What in-toto calls the JSON of a statement, whatever its predicate.
MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"

# docs/provenance.md says what they stand for.
BUILD_TYPE = "urn:opam-oci-pants:oci_package_image:v1"
BUILDER = "urn:opam-oci-pants:any-machine"


@dataclass(frozen=True)
class Dependency:
    """What an image was made of. `name`: what it is for, whatever its version, and unique in a statement; `algorithm` and
    `digest` (hex) as in-toto's digest sets have them; `uri` and `download` may be "", `mirrors`: further places of the same."""

    name: str
    algorithm: str
    digest: str
    uri: str = ""
    download: str = ""
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProvenanceContent:
    """What the statement about an image is made from, but for the image's digest. `attach`: a manifest in the index attaches it
    to the image; `parameters`: JSON values that BUILD files and options ask for."""

    name: str
    attach: bool
    parameters: Mapping[str, Any]
    dependencies: tuple[Dependency, ...]


@dataclass(frozen=True)
class LockedDebs:
    """.debs that an image was made of, by the lockfile that names them."""

    lockfile: str
    suite: str
    debs: tuple[Deb, ...]


def statement(content: ProvenanceContent, image: str) -> bytes:
    """The file's content. `image`: the digest of the image's manifest, "sha256:..."."""
    algorithm, _, digest = image.partition(":")
    return encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": image_purl(content.name, image), "digest": {algorithm: digest}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": content.parameters,
                    "resolvedDependencies": [_descriptor(one) for one in content.dependencies],
                },
                "runDetails": {"builder": {"id": BUILDER}},
            },
        }
    )


def _descriptor(one: Dependency) -> dict[str, Any]:
    result: dict[str, Any] = {"name": readable(one.name), "digest": {one.algorithm: one.digest}}
    if one.uri:
        result["uri"] = readable(one.uri)
    if one.download:
        result["downloadLocation"] = readable(one.download)
    if one.mirrors:
        result["annotations"] = {"mirrors": [readable(url) for url in one.mirrors]}
    return result


def lockfile_dependency(path: str, content: bytes) -> Dependency:
    """A lockfile as it was read."""
    return Dependency(f"lockfile {path}", "sha256", hashlib.sha256(content).hexdigest())


def tree_dependency(name: str, files: Iterable[tuple[str, str]], uri: str = "") -> Dependency:
    """A directory: (path, sha256 in hex) of each file."""
    return Dependency(name, "dirHash", dir_hash(files), uri)


def package_dependencies(package: LockedPackage) -> list[Dependency]:
    """A package's opam file, the files beside it, its archive and its extra sources. What of it is in the lockfile itself has
    a package URL with a path below the package's directory in a repository."""
    of, purl = f"opam {package.name}", opam_purl(package.name, package.version)
    opam = hashlib.sha256(package.opam.encode("utf-8", "surrogateescape")).hexdigest()
    found = [Dependency(f"{of} opam", "sha256", opam, f"{purl}#opam")]
    for source in sorted(package.sources, key=lambda source: source.name):
        first, *others = source.urls
        title = f"{of} source {source.name}" if source.name else f"{of} archive"
        found.append(Dependency(title, "sha256", source.sha256, first, mirrors=tuple(others)))
    for file in sorted(package.files, key=lambda file: file.path):
        content = hashlib.sha256(file.content).hexdigest()
        found.append(Dependency(f"{of} file {file.path}", "sha256", content, f"{purl}#files/{quote(file.path)}"))
    return found


def deb_dependencies(locked: Sequence[LockedDebs]) -> list[Dependency]:
    """Each .deb once, by name. Where lockfiles have several of one name, the names say which is whose."""
    by_name: dict[str, dict[str, tuple[str, str, Deb]]] = {}
    for one in locked:
        for deb in one.debs:
            by_name.setdefault(deb.name, {}).setdefault(deb.sha256, (one.lockfile, one.suite, deb))
    found = []
    for name in sorted(by_name):
        same = by_name[name]
        for sha256, (lockfile, suite, deb) in sorted(same.items(), key=lambda item: item[1][0]):
            title = f"deb {name}" if len(same) == 1 else f"deb {name} of {lockfile}"
            purl = deb_purl(name, deb.version, deb.architecture, suite)
            found.append(Dependency(title, "sha256", sha256, purl, f"debian:{deb.path}"))
    return found


def dir_hash(files: Iterable[tuple[str, str]]) -> str:
    """in-toto's `dirHash` of (path, sha256 in hex): the sha256 of what `sha256sum` prints of the files, sorted by their bytes."""
    lines = [_line(path.encode("utf-8", "surrogateescape"), sha256) for path, sha256 in files]
    return hashlib.sha256(b"".join(line for _, line in sorted(lines))).hexdigest()


def _line(path: bytes, sha256: str) -> tuple[bytes, bytes]:
    if b"\n" not in path:
        return path, sha256.encode() + b"  " + path + b"\n"
    # As sha256sum has it; without it, two directories could have one hash.
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    return path, b"\\" + sha256.encode() + b"  " + escaped + b"\n"
