"""`archive`: an image layout as one file: an OCI layout in a tar, or what `docker load` takes.

The same layout gives the same bytes: entries in fixed order, without times and owners. Sources: OCI image-spec,
image-layout.md; Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List

from opam_sandbox import tarstream
from opam_sandbox.errors import RequestError
from opam_sandbox.imaging.plain import copy_plain
from opam_sandbox.layer import Layer, read_layers
from opam_sandbox.request import Request
from opam_sandbox.tarstream import Entry

OUTPUT = "image.tar"


def run(request: Request, jobs: int) -> int:
    kind = request.get("format", str)
    layout = Path(request.get("layout", str))
    with open(OUTPUT, "wb") as out:
        if kind == "oci-archive":
            _oci(layout, out)
        elif kind == "docker-archive":
            _docker(request, layout, out)
        else:
            raise RequestError(f"format: there is no {kind!r}")
        out.write(tarstream.END)
    return 0


def _oci(layout: Path, out: BinaryIO) -> None:
    # What readers look at first comes first.
    names = sorted(os.fspath(path.relative_to(layout)) for path in layout.rglob("*"))
    first = ["oci-layout", "index.json"]
    for name in [*first, *(name for name in names if name not in first)]:
        path = layout / name
        if path.is_dir():
            out.write(tarstream.header(Entry(os.fsencode(name), tarstream.DIRECTORY, 0o755)))
        else:
            _write(out, name, lambda write, path=path: _copy(path, write))  # type: ignore[misc]


def _docker(request: Request, layout: Path, out: BinaryIO) -> None:
    images: List[Dict[str, object]] = []
    written: Dict[str, str] = {}
    for image in request.objects("images"):
        layers = read_layers(image.strings("layers"))
        config = layout / "blobs" / image.get("config", str).replace(":", "/")
        name = f"{config.name}.json"
        if name not in written:
            written[name] = name
            _write(out, name, lambda write, path=config: _copy(path, write))  # type: ignore[misc]
        images.append(
            {"Config": name, "RepoTags": image.strings("tags"), "Layers": [_layer(out, one, written) for one in layers]}
        )
    content = json.dumps(images, sort_keys=True, separators=(",", ":")).encode()
    _write(out, "manifest.json", lambda write: write(content))


def _layer(out: BinaryIO, layer: Layer, written: Dict[str, str]) -> str:
    """The layer's name in the archive; a layer of several images is written once."""
    if layer.diff_id not in written:
        name = f"{layer.diff_id.split(':')[1]}/layer.tar"
        out.write(tarstream.header(Entry(os.fsencode(os.path.dirname(name)), tarstream.DIRECTORY, 0o755)))
        _write(out, name, lambda write: copy_plain(layer, write))
        written[layer.diff_id] = name
    return written[layer.diff_id]


def _write(out: BinaryIO, name: str, produce: Callable[[Callable[[bytes], object]], object]) -> None:
    """One file; its size is known, and its header written, when its content is."""
    entry = Entry(os.fsencode(name), tarstream.REGULAR, 0o644)
    start = out.tell()
    out.write(bytes(tarstream.BLOCK))
    produce(out.write)
    entry.size = out.tell() - start - tarstream.BLOCK
    head = tarstream.header(entry)
    if len(head) != tarstream.BLOCK:
        raise RequestError(f"{name} is too large for an archive: {entry.size} bytes")
    out.write(tarstream.padding(entry.size))
    out.seek(start)
    out.write(head)
    out.seek(0, os.SEEK_END)


def _copy(path: Path, write: Callable[[bytes], object]) -> None:
    with open(path, "rb") as content:
        for data in iter(lambda: content.read(1 << 20), b""):
            write(data)
