"""An image's index, manifest and config as somebody else wrote them: what of them a base is made from.

Sources: OCI image-spec 1.1, image-index.md, manifest.md, config.md; Docker's "Image Manifest V 2, Schema 2".
"""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

from opam_sandbox import strict_json
from opam_sandbox.digests import checked
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.compress import LARGEST_LAYER
from opam_sandbox.oci.spec import DOCKER_INDEX_TYPE, INDEX_TYPE

_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
# Of a layer's bytes -> as OCI calls them: the bytes, and so the digests, are the same.
LAYER_TYPES = {
    _OCI_LAYER: _OCI_LAYER,
    f"{_OCI_LAYER}+gzip": f"{_OCI_LAYER}+gzip",
    f"{_OCI_LAYER}+zstd": f"{_OCI_LAYER}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": _OCI_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_OCI_LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_OCI_LAYER}+zstd",
}
# What indexes call the machines that each of an architecture is at least.
_PLAIN_VARIANTS = {"amd64": "v1", "arm64": "v8"}
# overlayfs stacks no more, and no engine has more.
_MOST_LAYERS = 127


class Blob(NamedTuple):
    """What a manifest says of a blob: `size` in bytes."""

    digest: str
    size: int


class BaseLayer(NamedTuple):
    """A layer of an image: `media_type` as OCI has it, `diff_id` the digest of its plain tar."""

    blob: Blob
    media_type: str
    diff_id: str


class Manifest(NamedTuple):
    """`layers`: blob and media type of each, bottom first."""

    config: Blob
    layers: List["tuple[Blob, str]"]


def check_text(content: bytes, digest: str, where: str) -> Dict[str, Any]:
    """The JSON object that a document is. Raises ToolError unless its sha256 is `digest`."""
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        raise ToolError(f"{where} is {found}, but should be {digest}")
    return strict_json.parse_object(content, where)


def chosen_manifest(index: Mapping[str, Any], architecture: str, where: str) -> Optional[str]:
    """The digest of an index's manifest for Linux on an architecture; None where `index` is no index but a manifest itself.

    Raises ToolError where it has none."""
    media_type = index.get("mediaType")
    if media_type not in (INDEX_TYPE, DOCKER_INDEX_TYPE) and "manifests" not in index:
        return None
    entries = index.get("manifests")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ToolError(f"{where}: its `manifests` is no list of descriptors")
    seen: Set[str] = set()
    found: Dict[str, Set[str]] = {}
    for entry in entries:
        platform = entry.get("platform")
        if not isinstance(platform, dict) or entry.get("artifactType"):
            continue
        name = f"{platform.get('os')!s:.40}/{platform.get('architecture')!s:.40}"
        variant = f"{platform.get('variant') or ''!s:.40}"
        seen.add(f"{name}/{variant}" if variant else name)
        if name == f"linux/{architecture}":
            found.setdefault(variant, set()).add(checked(entry.get("digest"), f"{where}: a manifest's `digest`"))
    # The variant that each machine of the architecture runs, if the index says any.
    for variant in ("", _PLAIN_VARIANTS.get(architecture, "")):
        if len(found.get(variant, ())) == 1:
            return found[variant].pop()
    if not found:
        # "unknown/unknown" is what builders call their attestations.
        listed = ", ".join(sorted(seen - {"unknown/unknown"})[:20]) or "none that says its platform"
        raise ToolError(f"{where} has no image for linux/{architecture}; it has {listed}")
    listed = ", ".join(sorted({one for digests in found.values() for one in digests})[:20])
    raise ToolError(
        f"{where} has no image for linux/{architecture} of which no variant is said, or several. Take the digest of the one "
        f"that is meant: {listed}"
    )


def read_manifest(manifest: Mapping[str, Any], where: str) -> Manifest:
    """Raises ToolError for what is no image's manifest, and for layers that are nobody's to hand on or of an unknown kind."""
    if manifest.get("schemaVersion") != 2 or not isinstance(manifest.get("layers"), list):
        raise ToolError(f"{where} is no manifest of an image that this program reads (schemaVersion 2, with `layers`)")
    layers = []
    for number, entry in enumerate(manifest["layers"]):
        here = f"{where}: layer {number}"
        blob = _blob(entry, here)
        media_type = LAYER_TYPES.get(entry.get("mediaType"))
        if media_type is None:
            raise ToolError(
                f"{here} is {entry.get('mediaType')!r:.100}, which is no layer that a base can have: "
                "tars are taken, plain or compressed with gzip or zstd"
            )
        layers.append((blob, media_type))
    if len(layers) > _MOST_LAYERS:
        raise ToolError(f"{where} has {len(layers)} layers, more than {_MOST_LAYERS}")
    return Manifest(_blob(manifest.get("config"), f"{where}: its config"), layers)


def read_config(
    config: Mapping[str, Any], layers: Sequence["tuple[Blob, str]"], architecture: str, where: str
) -> List[BaseLayer]:
    """The layers of an image, by its manifest and its config. Raises ToolError where these do not fit, or it is for another
    machine."""
    platform = f"{config.get('os')!s:.40}/{config.get('architecture')!s:.40}"
    if platform != f"linux/{architecture}":
        raise ToolError(f"{where} is for {platform}, but the base is for linux/{architecture}")
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
        raise ToolError(f"{where}: its `rootfs` does not list the {len(layers)} layers of the manifest")
    return [
        BaseLayer(blob, media_type, checked(diff_id, f"{where}: a diff_id"))
        for (blob, media_type), diff_id in zip(layers, diff_ids)
    ]


def _blob(entry: object, where: str) -> Blob:
    if not isinstance(entry, dict):
        raise ToolError(f"{where} is no descriptor")
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST_LAYER:
        raise ToolError(f"{where}: its size is {size!r:.40}")
    return Blob(checked(entry.get("digest"), f"{where}: its `digest`"), size)
