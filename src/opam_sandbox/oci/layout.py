"""Reading image layouts: descriptors, and what a manifest refers to.

Source: OCI image-spec 1.1 (descriptor.md, image-layout.md, manifest.md, image-index.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from opam_sandbox.errors import ToolError
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
_MANIFESTS = frozenset({INDEX_TYPE, MANIFEST_TYPE, DOCKER_MANIFEST_TYPE, DOCKER_INDEX_TYPE})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
# annotations.md: components of letters and digits, divided by single separators.
_REF = re.compile(r"[A-Za-z0-9]+(?:(?:--|[-._:@+/])[A-Za-z0-9]+)*\Z")

Descriptor = Dict[str, Any]


def check_ref(name: str) -> str:
    """The name if it may be one of an image in a layout. Raises ToolError otherwise."""
    if not _REF.match(name):
        raise ToolError(
            f"{name!r} cannot name an image in a layout: it takes letters and digits with single separators "
            "(one of - . _ : @ + /) between them, such as `hello:1.0`."
        )
    return name


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout keeps a blob. Raises ToolError for what is not a sha256 digest."""
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise ToolError(f"{layout}: {digest!r} is not a sha256 digest")
    return layout / "blobs" / "sha256" / digest[len("sha256:") :]


def read_index(layout: Path) -> Dict[str, Any]:
    """What index.json says. Raises ToolError where it is not an index."""
    path = layout / INDEX_FILE
    index = read_json(path)
    manifests = index.get("manifests")
    if not isinstance(manifests, list) or not all(isinstance(entry, dict) for entry in manifests):
        raise ToolError(f"{path} is not the index of an OCI image layout: it has no list `manifests`")
    return index


def ref_name(entry: Descriptor) -> str:
    """The name of an index's entry, "" where it has none."""
    annotations = entry.get("annotations")
    return str(annotations.get(REF_NAME, "")) if isinstance(annotations, dict) else ""


def is_manifest(descriptor: Descriptor) -> bool:
    """Whether a descriptor's blob refers to other blobs."""
    return descriptor.get("mediaType") in _MANIFESTS


def new_index(entries: List[Descriptor]) -> Dict[str, Any]:
    """An index.json with these entries."""
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}


def read_manifest(layout: Path, descriptor: Descriptor) -> Dict[str, Any]:
    """The JSON object in the blob of a descriptor. Raises ToolError where there is none."""
    return read_json(blob_path(layout, descriptor.get("digest", "")))


def children(layout: Path, descriptor: Descriptor) -> Iterator[Descriptor]:
    """What the blob of a descriptor refers to and cannot be without: the subject of a referrer is not among it."""
    if is_manifest(descriptor):
        manifest = read_manifest(layout, descriptor)
        found: List[Any] = [manifest.get("config"), *_list(manifest, "layers"), *_list(manifest, "manifests")]
        for child in found:
            if isinstance(child, dict):
                yield child


def closure(layout: Path, entries: Iterable[Descriptor]) -> Dict[str, Descriptor]:
    """All blobs that entries of an index consist of, by digest. Raises ToolError where a manifest is not readable."""
    found: Dict[str, Descriptor] = {}
    waiting = list(entries)
    while waiting:
        descriptor = waiting.pop()
        digest = descriptor.get("digest", "")
        if digest not in found:
            blob_path(layout, digest)
            found[digest] = descriptor
            waiting.extend(children(layout, descriptor))
    return found


def subject(layout: Path, entry: Descriptor) -> str:
    """The digest that an entry is about (a signature, a bill of materials), "" for an image."""
    if not is_manifest(entry):
        return ""
    about = read_manifest(layout, entry).get("subject")
    return str(about.get("digest", "")) if isinstance(about, dict) else ""


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
def lone_image(layout: Path, image: Descriptor, parent: str = "") -> Iterator[Path]:
    """A layout that shows nothing but the image: tools that are not told a name want just one, and a name may be that of
    several entries. It is in a new directory below `parent` (the system's for temporary files), as long as the context."""
    with temporary(parent) as directory:
        view = directory / "image"
        view.mkdir()
        (view / "blobs").symlink_to(layout.absolute() / "blobs")
        (view / LAYOUT_FILE).write_text(json.dumps(LAYOUT))
        entry = {key: value for key, value in image.items() if key != "annotations"}
        (view / INDEX_FILE).write_text(json.dumps(new_index([entry])))
        yield view


def size_on_disk(path: Path) -> int:
    """The size of a file that is there, -1 if there is none.

    The file is opened: on NFS that asks the server, while a mere stat may be answered from what this machine remembers.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _list(manifest: Dict[str, Any], key: str) -> List[Any]:
    value = manifest.get(key)
    return value if isinstance(value, list) else []


def read_json(path: Path) -> Dict[str, Any]:
    """The JSON object in a file. Raises ToolError where there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ToolError(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ToolError(f"{path} should hold a JSON object")
    return data
