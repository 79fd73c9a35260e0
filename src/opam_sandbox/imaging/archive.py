"""`archive`: an image layout as one file: an OCI layout in a tar, or what `docker load` takes.

The same layout gives the same bytes: entries in fixed order, without times and owners. Sources: OCI image-spec,
image-layout.md; Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List, Sequence

from opam_sandbox.digests import hex_of
from opam_sandbox.errors import RequestError
from opam_sandbox.files import file_sha256
from opam_sandbox.imaging.requests import ArchivedImage, ArchiveRequest
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.description import Layer, read_layers
from opam_sandbox.layer.read_blob import copy_plain
from opam_sandbox.layer.tar_headers import Entry
from opam_sandbox.oci.spec import INDEX_FILE, LAYOUT_FILE

OUTPUT = "image.tar"


def run(request: ArchiveRequest, jobs: int) -> int:
    """Write image.tar. Returns the exit status; raises ToolError."""
    layout = Path(request["layout"])
    with open(OUTPUT, "wb") as out:
        if request["format"] == "oci-archive":
            _oci(layout, out)
        else:
            _docker(request["images"], layout, out)
        out.write(tar_headers.END)
    return 0


def _oci(layout: Path, out: BinaryIO) -> None:
    # What readers look at first comes first.
    names = sorted(os.fspath(path.relative_to(layout)) for path in layout.rglob("*"))
    first = [LAYOUT_FILE, INDEX_FILE]
    for name in [*first, *(name for name in names if name not in first)]:
        path = layout / name
        if path.is_dir():
            out.write(tar_headers.header(Entry(os.fsencode(name), tar_headers.DIRECTORY, 0o755)))
        else:
            _write(out, name, lambda write, path=path: _copy(path, write))  # type: ignore[misc]


def _docker(requested: Sequence[ArchivedImage], layout: Path, out: BinaryIO) -> None:
    images: List[Dict[str, object]] = []
    written: Dict[str, str] = {}
    for image in requested:
        layers = read_layers(image["layers"])
        config = layout / "blobs" / "sha256" / hex_of(image["config"], "the request's `config`")
        name = f"{config.name}.json"
        if name not in written:
            written[name] = name
            _write(out, name, lambda write, path=config: _copy(path, write))  # type: ignore[misc]
        images.append(
            {"Config": name, "RepoTags": image["tags"], "Layers": [_layer(out, one, written) for one in layers]}
        )
    content = json.dumps(images, sort_keys=True, separators=(",", ":")).encode()
    _write(out, "manifest.json", lambda write: write(content))


def _layer(out: BinaryIO, layer: Layer, written: Dict[str, str]) -> str:
    """The layer's name in the archive; a layer of several images is written once."""
    if layer.diff_id not in written:
        name = f"{hex_of(layer.diff_id)}/layer.tar"
        out.write(tar_headers.header(Entry(os.fsencode(os.path.dirname(name)), tar_headers.DIRECTORY, 0o755)))
        _write(out, name, lambda write: copy_plain(layer, write))
        written[layer.diff_id] = name
    return written[layer.diff_id]


def _write(out: BinaryIO, name: str, produce: Callable[[Callable[[bytes], object]], object]) -> None:
    """One file; its size is known, and its header written, when its content is."""
    start = out.tell()
    out.write(bytes(tar_headers.BLOCK))
    produce(out.write)
    size = out.tell() - start - tar_headers.BLOCK
    entry = Entry(os.fsencode(name), tar_headers.REGULAR, 0o644, size=size)
    head = tar_headers.header(entry)
    if len(head) != tar_headers.BLOCK:
        raise RequestError(f"{name} is too large for an archive: {size} bytes")
    out.write(tar_headers.padding(size))
    out.seek(start)
    out.write(head)
    out.seek(0, os.SEEK_END)


def _copy(path: Path, write: Callable[[bytes], object]) -> None:
    file_sha256(path, write)
