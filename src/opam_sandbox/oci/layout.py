"""Reading image layouts: descriptors, and what a manifest refers to.

Layouts come from elsewhere: each field is looked at before it is used, and each blob that is read as JSON has the digest and the
size that its descriptor says. Source: OCI image-spec 1.1 (descriptor.md, image-layout.md, manifest.md, image-index.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Collection, Dict, Iterable, Iterator, List, Set, Tuple

from opam_sandbox import digests, strict_json
from opam_sandbox.errors import ToolError
from opam_sandbox.oci import layout_files
from opam_sandbox.oci.spec import (
    DOCKER_INDEX_TYPE,
    DOCKER_MANIFEST_TYPE,
    INDEX_FILE,
    INDEX_TYPE,
    LAYOUT,
    LAYOUT_FILE,
    MANIFEST_TYPE,
    REF_NAME,
)
from opam_sandbox.sandbox.scratch import temporary

# What refers to other blobs.
_IMAGES = frozenset({MANIFEST_TYPE, DOCKER_MANIFEST_TYPE})
_MANIFESTS = frozenset({INDEX_TYPE, DOCKER_INDEX_TYPE}) | _IMAGES
# annotations.md: components of letters and digits, divided by single separators.
_REF = re.compile(r"[A-Za-z0-9]+(?:(?:--|[-._:@+/])[A-Za-z0-9]+)*\Z")
_LARGEST_SIZE = (1 << 63) - 1

Descriptor = Dict[str, Any]


def check_ref(name: str) -> str:
    """The name if it may be one of an image in a layout. Raises ToolError otherwise."""
    if not _REF.match(name):
        raise ToolError(
            f"{name!r} cannot name an image in a layout: it takes letters and digits with single separators "
            "(one of - . _ : @ + /) between them, such as `hello:1.0`."
        )
    return name


def check_descriptor(value: object, where: str) -> Descriptor:
    """The value if it is a descriptor whose fields have the types that they should have. Raises ToolError otherwise;
    `where` names file and field."""
    if not isinstance(value, dict):
        raise ToolError(f"{where} should be a descriptor, a JSON object, but is {value!r:.80}")
    if not isinstance(value.get("mediaType"), str):
        raise ToolError(f"{where}: its `mediaType` should be a string, but is {value.get('mediaType')!r:.80}")
    digests.checked(value.get("digest"), f"{where}: its `digest`")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST_SIZE:
        raise ToolError(f"{where}: its `size` should be a number of bytes, but is {size!r:.80}")
    annotations = value.get("annotations")
    if annotations is not None and not _is_annotations(annotations):
        raise ToolError(f"{where}: its `annotations` should be an object of strings, but are {annotations!r:.80}")
    if not ref_name(value).isprintable():
        raise ToolError(f"{where}: its name, {ref_name(value)!r:.80}, is not printable")
    return value


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout keeps a blob. Raises ToolError for what is not a sha256 digest."""
    return layout / layout_files.blob_name(digest, str(layout))


def read_index(layout: Path) -> Dict[str, Any]:
    """What index.json says; its entries are descriptors. Raises ToolError where it is not an index."""
    path = layout / INDEX_FILE
    index = layout_files.read_object(layout, INDEX_FILE)
    manifests = index.get("manifests")
    if not isinstance(manifests, list):
        raise ToolError(f"{path} is not the index of an OCI image layout: it has no list `manifests`")
    for number, entry in enumerate(manifests):
        check_descriptor(entry, f"{path}: manifests[{number}]")
    return index


def ref_name(entry: Descriptor) -> str:
    """The name of an index's entry, "" where it has none."""
    return str((entry.get("annotations") or {}).get(REF_NAME, ""))


def is_manifest(descriptor: Descriptor) -> bool:
    """Whether a descriptor's blob refers to other blobs."""
    return descriptor["mediaType"] in _MANIFESTS


def is_image(descriptor: Descriptor) -> bool:
    """Whether a descriptor's blob is the manifest of one image."""
    return descriptor["mediaType"] in _IMAGES


def new_index(entries: List[Descriptor]) -> Dict[str, Any]:
    """An index.json with these entries."""
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}


def read_json_blob(layout: Path, descriptor: Descriptor) -> Dict[str, Any]:
    """The JSON object in the blob of a descriptor. Raises ToolError where there is none, or the blob is another."""
    name = layout_files.blob_name(descriptor["digest"], str(layout))
    content = layout_files.read(layout, name)
    where = str(layout / name)
    data = strict_json.parse_object(content, where)
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != descriptor["digest"] or len(content) != descriptor["size"]:
        raise ToolError(
            f"{where} is damaged: it has {len(content)} bytes with {found}, but should have {descriptor['size']} with "
            f"{descriptor['digest']}"
        )
    return data


def read_manifest(layout: Path, descriptor: Descriptor) -> Dict[str, Any]:
    """The manifest or index in the blob of a descriptor, which is of the kind that the descriptor says. Raises ToolError."""
    manifest = read_json_blob(layout, descriptor)
    path = blob_path(layout, descriptor["digest"])
    if manifest.get("mediaType", descriptor["mediaType"]) != descriptor["mediaType"]:
        raise ToolError(
            f"{path}: its `mediaType` is {manifest['mediaType']!r:.80}, but it is referred to as {descriptor['mediaType']!r:.80}"
        )
    # image-spec, manifest.md: a reader that takes one kind for the other would show another image.
    foreign = ("manifests",) if is_image(descriptor) else ("config", "layers")
    for key in foreign:
        if key in manifest:
            raise ToolError(f"{path} is {descriptor['mediaType']!r:.80}, but has `{key}`")
    return manifest


def children(layout: Path, descriptor: Descriptor) -> List[Descriptor]:
    """What the blob of a descriptor refers to and cannot be without: the subject of a referrer is not among it."""
    if not is_manifest(descriptor):
        return []
    manifest = read_manifest(layout, descriptor)
    path = blob_path(layout, descriptor["digest"])
    found: List[Descriptor] = []
    if is_image(descriptor):
        found.append(check_descriptor(manifest.get("config"), f"{path}: `config`"))
    for key in ("layers", "manifests"):
        for number, child in enumerate(_list(manifest, key, path)):
            found.append(check_descriptor(child, f"{path}: {key}[{number}]"))
    return found


def closure(layout: Path, entries: Iterable[Descriptor]) -> Dict[str, Descriptor]:
    """All blobs that entries of an index consist of, by digest. Raises ToolError where a manifest is not readable."""
    found: Dict[str, Descriptor] = {}
    # One blob may be called a manifest in one place, and something else in another.
    seen: Set[Tuple[str, bool]] = set()
    waiting = list(entries)
    while waiting:
        descriptor = waiting.pop()
        digest = descriptor["digest"]
        known = found.setdefault(digest, descriptor)
        if known["size"] != descriptor["size"]:
            raise ToolError(
                f"{layout}: the blob {digest} is said to have {known['size']} and {descriptor['size']} bytes"
            )
        if (digest, is_manifest(descriptor)) not in seen:
            seen.add((digest, is_manifest(descriptor)))
            waiting.extend(children(layout, descriptor))
    return found


def check_blobs(layout: Path, blobs: Iterable[Descriptor]) -> None:
    """Raise ToolError unless each blob is a file of the layout and has its size. (Who reads it compares its digest.)"""
    for descriptor in blobs:
        name = layout_files.blob_name(descriptor["digest"], str(layout))
        size = layout_files.size_of(layout, name)
        if size < 0:
            raise ToolError(f"{layout / name} is missing")
        if size != descriptor["size"]:
            raise ToolError(f"{layout / name} is damaged: it has {size} bytes, but should have {descriptor['size']}")


def checked_blob(layout: Path, descriptor: Descriptor) -> Path:
    """The path of a small blob, whose bytes are what its descriptor says. Raises ToolError."""
    name = layout_files.blob_name(descriptor["digest"], str(layout))
    content = layout_files.read(layout, name)
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != descriptor["digest"] or len(content) != descriptor["size"]:
        raise ToolError(f"{layout / name} is damaged: it has {len(content)} bytes with {found}")
    return layout / name


def subject(layout: Path, entry: Descriptor) -> str:
    """The digest that an entry is about (a signature, a bill of materials), "" for an image."""
    if not is_manifest(entry):
        return ""
    about = read_manifest(layout, entry).get("subject")
    if about is None:
        return ""
    where = f"{blob_path(layout, entry['digest'])}: `subject`"
    return str(check_descriptor(about, where)["digest"])


def image_and_referrers(layout: Path) -> Tuple[Descriptor, List[Descriptor]]:
    """The one image of a layout, and what in it is about this image. Raises ToolError unless there is exactly one."""
    images: Dict[str, Descriptor] = {}
    about: List[Tuple[str, Descriptor]] = []
    for entry in read_index(layout)["manifests"]:
        target = subject(layout, entry)
        if target:
            about.append((target, entry))
        else:
            images.setdefault(entry["digest"], entry)
    if len(images) != 1:
        raise ToolError(f"{layout} should hold one image, but holds {len(images)}")
    [(digest, image)] = images.items()
    return image, [entry for target, entry in about if target == digest]


@contextlib.contextmanager
def lone_image(layout: Path, image: Descriptor, parent: str = "", without: Collection[str] = ()) -> Iterator[Path]:
    """A layout that shows nothing but the image: tools that are not told a name want just one, and a name may be that of
    several entries. It is in a new directory below `parent` (the system's for temporary files), as long as the context.
    without: digests of blobs that need not be there, as whoever reads this has them from elsewhere.

    Raises ToolError where a blob of the image is no file of the layout: other tools follow links, and wait for FIFOs.
    """
    check_blobs(layout, (one for digest, one in closure(layout, [image]).items() if digest not in without))
    with temporary(parent) as directory:
        view = directory / "image"
        view.mkdir()
        (view / "blobs").symlink_to(layout.absolute() / "blobs")
        (view / LAYOUT_FILE).write_text(json.dumps(LAYOUT))
        entry = {key: value for key, value in image.items() if key != "annotations"}
        (view / INDEX_FILE).write_text(json.dumps(new_index([entry])))
        yield view


def _is_annotations(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _list(manifest: Dict[str, Any], key: str, path: "os.PathLike[str]") -> List[Any]:
    value = manifest.get(key)
    if value is not None and not isinstance(value, list):
        raise ToolError(f"{path}: `{key}` should be a list, but is {value!r:.80}")
    return value or []
