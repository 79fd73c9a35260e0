"""What an image's provenance says, which somebody else wrote: each field is looked at before it is used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from opam_oci.images.provenance_document import BUILD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE
from opam_oci.sandbox.foreign_json import parse_object


class RecordedError(Exception):
    """There is no provenance of the image, or none that can be compared; the message names image or file, and field."""


@dataclass(frozen=True)
class RecordedDependency:
    """`digest`: hex by algorithm, as in-toto's digest sets have them. `uri`: "" for none."""

    digest: Mapping[str, str]
    uri: str


@dataclass(frozen=True)
class Recorded:
    """An image's provenance. sha256: of the document, in hex. origin: where it is from, for people. subjects: digests
    "sha256:..." of the manifests that it is about. parameters: JSON values. dependencies: by name."""

    sha256: str
    origin: str
    subjects: tuple[str, ...]
    builder: str
    parameters: Mapping[str, Any]
    dependencies: Mapping[str, RecordedDependency]


def is_provenance(text: bytes, origin: str) -> bool:
    """Whether a document is a statement about provenance. Raises RecordedError for what is no JSON object."""
    return parse_object(text, origin, RecordedError).get("predicateType") == PREDICATE_TYPE


def read_recorded(text: bytes, origin: str) -> Recorded:
    """The document's content. Raises RecordedError unless it is provenance of an image that this backend made."""
    document = parse_object(text, origin, RecordedError)
    for key, wanted in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if document.get(key) != wanted:
            raise RecordedError(f"{origin}: its `{key}` should be {wanted!r}, but is {document.get(key)!r:.100}.")
    predicate = _object(document, "predicate", origin)
    definition = _object(predicate, "buildDefinition", origin)
    if definition.get("buildType") != BUILD_TYPE:
        raise RecordedError(
            f"{origin}: its `buildType` is {definition.get('buildType')!r:.100}, and not {BUILD_TYPE!r}: the image was made by "
            "something else, whose provenance cannot be compared with this checkout."
        )
    dependencies: dict[str, RecordedDependency] = {}
    for number, value in enumerate(_list(definition, "resolvedDependencies", origin)):
        where = f"{origin}: resolvedDependencies[{number}]"
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or not name:
            raise RecordedError(f"{where}: it has no `name`.")
        if name in dependencies:
            raise RecordedError(f"{where}: {name!r:.100} stands there twice.")
        uri = value.get("uri", "")
        dependencies[name] = RecordedDependency(_digest(value, where), uri if isinstance(uri, str) else "")
    details = predicate.get("runDetails")
    builder = details.get("builder") if isinstance(details, dict) else None
    return Recorded(
        hashlib.sha256(text).hexdigest(),
        origin,
        tuple(
            f"sha256:{_digest(one, f'{origin}: subject[{number}]').get('sha256', '')}"
            for number, one in enumerate(_list(document, "subject", origin))
        ),
        str(builder.get("id", "")) if isinstance(builder, dict) else "",
        _object(definition, "externalParameters", origin),
        dependencies,
    )


def recorded_of(image: str, manifest: str, documents: Sequence[tuple[str, bytes]]) -> Recorded:
    """The provenance of an image among documents about it: (origin, text) each. manifest: the image's digest. Raises
    RecordedError unless there is exactly one, about this image."""
    found = {text: origin for origin, text in documents if is_provenance(text, origin)}
    other_way = "Name a file that has it by `--provenance`"
    if not found:
        raise RecordedError(
            f"{image} ({manifest}): no provenance is attached to it, so nobody says what it was made of. {other_way} (`package` "
            "writes `dist/.../NAME.provenance.json` beside an image), or compare the images alone: `oci-diff --check --files`."
        )
    if len(found) > 1:
        listed = ", ".join(sorted(f"sha256:{hashlib.sha256(text).hexdigest()}" for text in found))
        raise RecordedError(
            f"{image} ({manifest}): {len(found)} documents about its provenance are attached to it: {listed}. {other_way}."
        )
    [(text, origin)] = found.items()
    recorded = read_recorded(text, origin)
    if manifest not in recorded.subjects:
        about = ", ".join(recorded.subjects) or "nothing"
        raise RecordedError(f"{origin}: it is about {about:.300}, and not about {image}, which is {manifest}.")
    return recorded


def _object(values: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = values.get(key)
    if not isinstance(found, dict):
        raise RecordedError(f"{where}: its `{key}` should be an object, but is {found!r:.100}.")
    return found


def _list(values: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    found = values.get(key)
    if not isinstance(found, list):
        raise RecordedError(f"{where}: its `{key}` should be a list, but is {found!r:.100}.")
    return found


def _digest(value: Any, where: str) -> Mapping[str, str]:
    digest = value.get("digest") if isinstance(value, dict) else None
    if not isinstance(digest, dict) or not digest or not all(isinstance(one, str) for one in digest.values()):
        raise RecordedError(f"{where}: it has no `digest`.")
    return digest
