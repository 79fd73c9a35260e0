"""A layer that a process of the sandbox tool made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from pants.engine.fs import Digest, DigestSubset, FileEntry, PathGlobs
from pants.engine.process import FallibleProcessResult

from opam_oci.pants_engine.calls import digest_subset_to_digest
from opam_oci.pants_engine.digests import file_entries, read_files
from opam_oci.sandbox.foreign_json import checked_digest, parse_object

# What a process that makes a layer writes beside the blob.
LAYER_OUTPUTS = ("layer.json", "build.log", "timings.json")


class LayerError(Exception):
    """A layer that everything needs could not be made, or is not what it says it is."""


@dataclass(frozen=True)
class Layer:
    """A layer directory (`layer.json` and its blob) and what stands in its layer.json.

    `diff_id` and `blob` are "sha256:..."; `size` is the blob's, in bytes. `description` is the sha256 (hex) of layer.json.
    `annotations`: those that the blob's descriptor has in every manifest, by name.
    """

    kind: str
    name: str
    version: str
    diff_id: str
    blob: str
    size: int
    media_type: str
    digest: Digest
    description: str
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def full_name(self) -> str:
        """The name, with the version where there is one: "lwt.5.6.1"."""
        return f"{self.name}.{self.version}" if self.version else self.name


def blob_path(digest: str) -> str:
    """Where an OCI image layout keeps the blob `sha256:...`. Raises LayerError for what is no digest."""
    return f"blobs/sha256/{checked_digest(digest, 'a blob', LayerError)[len('sha256:') :]}"


def check_blobs(blobs: Iterable[FileEntry], description: str) -> None:
    """Raise LayerError for a blob whose name is not its content's sha256, which is what the engine knows files by."""
    for blob in blobs:
        if blob.path != f"blobs/sha256/{blob.file_digest.fingerprint}":
            raise LayerError(
                f"{description}: the blob {blob.path} is corrupt, its sha256 is {blob.file_digest.fingerprint}. "
                "Something wrote into Pants' store, or the machine's memory or disk fails."
            )


def _check_description(values: Mapping[str, Any], description: str) -> Mapping[str, Any]:
    """Raise LayerError unless the fields of a layer.json that the backend reads are what they should be."""
    where = f"{description}: layer.json"
    for key in ("digest", "diff_id"):
        checked_digest(values.get(key), f"{where}: `{key}`", LayerError)
    for key, kind in (("kind", str), ("name", str), ("version", str), ("media_type", str), ("size", int)):
        if not isinstance(values.get(key), kind):
            raise LayerError(f"{where}: its `{key}` is {values.get(key)!r:.80}.")
    annotations = values.get("annotations", {})
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise LayerError(f"{where}: its `annotations` are {annotations!r:.80}.")
    return values


async def layer_in(digest: Digest, description: str) -> Layer:
    """The layer directory that a digest holds, and nothing else, checked: its blob is what layer.json says. Raises LayerError."""
    contents = await read_files(digest, "layer.json")
    if not contents:
        raise LayerError(f"{description}: the sandbox tool wrote no layer.json.")
    values = _check_description(
        parse_object(contents["layer.json"], f"{description}: layer.json", LayerError), description
    )
    blobs = await file_entries(digest)
    written = blobs.pop("layer.json")
    check_blobs(blobs.values(), description)
    if list(blobs) != [blob_path(values["digest"])]:
        raise LayerError(
            f"{description}: layer.json names {values['digest']}, but the blobs are {', '.join(blobs) or 'none'}."
        )
    return Layer(
        kind=values["kind"],
        name=values["name"],
        version=values["version"],
        diff_id=values["diff_id"],
        blob=values["digest"],
        size=values["size"],
        media_type=values["media_type"],
        digest=digest,
        description=written.file_digest.fingerprint,
        annotations=tuple(sorted(values.get("annotations", {}).items())),
    )


async def layer_of(result: FallibleProcessResult, description: str) -> Layer:
    """The layer that a successful process made, checked: its blob is what layer.json says. Raises LayerError.

    Only layer.json and the blob are in its digest. The log and the timings differ from run to run and would change
    the cache keys of all that is built above.
    """
    return await layer_in(
        await digest_subset_to_digest(DigestSubset(result.output_digest, PathGlobs(["layer.json", "blobs/**"]))),
        description,
    )
