"""`statements`: in-toto's statements about an image, which are attached to it as OCI 1.1 referrers, in a layout or a registry.

Who made them is not looked at here, and no signature: a statement is what somebody says. Sources: image-spec 1.1 (manifest.md,
`subject`), distribution-spec 1.1 ("Listing referrers").
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

from opam_sandbox import strict_json
from opam_sandbox.comparing.requests import RegistryReference, StatementsRequest
from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.oci import layout as oci
from opam_sandbox.oci import layout_files
from opam_sandbox.registry import blobs, manifests
from opam_sandbox.registry.client import Access, Client, repository_in
from opam_sandbox.registry.registries_conf import may_lead_elsewhere

STATEMENT = "application/vnd.in-toto+json"
_RETRIES = 3
# Of one image: builders add one or two for each build.
_MOST = 200


class Statement(NamedTuple):
    """digest: of the document's bytes. text: the document."""

    digest: str
    text: str


# Reads a small blob, whose digest is compared by who asks.
_Read = Callable[[oci.Descriptor], bytes]


def run(request: StatementsRequest, jobs: int) -> int:
    """Write the statements, each once, by their digests. Returns 0; raises ToolError."""
    name, reference, image = request["name"], request["reference"], request["image"]
    if reference["kind"] == "layout":
        found = list(_of_layout(name, Path(reference["path"]), image))
    else:
        found = _of_registry(name, reference, image)
    statements = [one._asdict() for one in sorted(set(found))]
    write_json(request["output"], {"statements": statements})
    return 0


def _of_layout(name: str, layout: Path, image: str) -> Iterator[Statement]:
    def read(descriptor: oci.Descriptor) -> bytes:
        return layout_files.read(layout, layout_files.blob_name(descriptor["digest"], name))

    entries = oci.read_index(layout)["manifests"]
    about = [one for one in entries if oci.is_image(one) and oci.subject(layout, one) == image]
    for entry in _few(name, about):
        yield from _documents(name, oci.read_manifest(layout, entry), entry["digest"], read)


def _of_registry(name: str, reference: RegistryReference, image: str) -> List[Statement]:
    elsewhere = may_lead_elsewhere(os.environ)
    if elsewhere:
        raise ToolError(
            f"{name}: what is about it is not looked for: {elsewhere} may lead elsewhere (it has a `prefix`)"
        )
    host, _, rest = reference["source"].partition("://")[2].partition("/")
    repository = repository_in(host, _path(rest))
    client = Client(Access(host, reference["tls_verify"], reference["cert_dir"], _RETRIES), repository)
    try:
        client.connect()

        def read(descriptor: oci.Descriptor) -> bytes:
            return blobs.read(client, repository, descriptor["digest"])

        found: List[Statement] = []
        about = [one for one in manifests.referrers(client, repository, image) if _may_be(one)]
        for entry in _few(name, about):
            content = manifests.read(client, repository, entry["digest"])
            manifest = strict_json.parse_object(content, f"{name}: {entry['digest']}")
            # A list under a tag is anybody's; what a manifest is about, it says itself.
            subject = manifest.get("subject")
            if isinstance(subject, dict) and subject.get("digest") == image:
                found += _documents(name, manifest, entry["digest"], read)
        return found
    finally:
        client.close()


def _path(rest: str) -> str:
    """The repository's path of `PATH:TAG`, `PATH@DIGEST`."""
    head, slash, last = rest.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _may_be(entry: Dict[str, Any]) -> bool:
    """Whether an entry of a list may be a statement: some lists have no artifact type."""
    return oci.is_image(entry) and entry.get("artifactType", STATEMENT) == STATEMENT


def _few(name: str, entries: List[Any]) -> List[Any]:
    if len(entries) > _MOST:
        raise ToolError(f"{name}: {len(entries)} statements are about it, more than the {_MOST} that are read")
    return entries


def _documents(name: str, manifest: Dict[str, Any], digest: str, read: _Read) -> Iterator[Statement]:
    if manifest.get("artifactType") != STATEMENT:
        return
    layers = manifest.get("layers")
    for number, one in enumerate(layers if isinstance(layers, list) else ()):
        where = f"{name}: {digest}: layers[{number}]"
        descriptor = oci.check_descriptor(one, where)
        if descriptor["mediaType"] != STATEMENT:
            continue
        content = read(descriptor)
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != descriptor["digest"]:
            raise ToolError(f"{where}: it is damaged: it is not {descriptor['digest']}")
        strict_json.parse_object(content, where)
        yield Statement(descriptor["digest"], content.decode())
