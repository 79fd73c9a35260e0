"""`compare-files`: in which paths layers of two images differ.

What lies in a layer that the other image has no counterpart of may have moved there from another one, as when packages are
joined otherwise: it is looked for among all such layers.
"""

from __future__ import annotations

import io
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ContextManager, Dict, Iterator, List, NamedTuple, Optional

from opam_sandbox.comparing import skopeo, tars
from opam_sandbox.comparing.packages import Owners, owners_of
from opam_sandbox.comparing.requests import CompareFilesRequest, ImageOfDiff, LayerOfImage
from opam_sandbox.comparing.tars import Difference, Item
from opam_sandbox.files import write_json
from opam_sandbox.layer.read_tar import Readable
from opam_sandbox.oci import layout_files
from opam_sandbox.oci.layer_file import LayerFile, content_of
from opam_sandbox.sandbox.scratch import temporary

# A tar of nothing: two blocks of zeros.
_EMPTY = bytes(1024)


class _Compared(NamedTuple):
    """A pair's layers, those that there are, and the paths that differ."""

    layers: List[LayerFile]
    differences: List[Difference]

    @property
    def paired(self) -> bool:
        return len(self.layers) == 2


def run(request: CompareFilesRequest, jobs: int) -> int:
    """Write what differs, in the order of the request's layers. Returns 0; raises ToolError."""
    with ExitStack() as stack:
        first = stack.enter_context(_layout(request["first"]))
        second = stack.enter_context(_layout(request["second"]))
        found = [
            _compare(
                _file(request["first"], first, pair["first"]),
                _file(request["second"], second, pair["second"]),
            )
            for pair in request["layers"]
        ]
        # Owners last: of paths that have only moved nobody asks, and layers are large.
        layers = [
            _as_json(one.differences, owners_of(one.layers, [other.path for other in one.differences]))
            for one in _moved(found)
        ]
    write_json(request["output"], {"layers": layers})
    return 0


def _file(image: ImageOfDiff, layout: Path, layers: List[LayerOfImage]) -> Optional[LayerFile]:
    for layer in layers:
        title = f"{image['name']}: layer {layer['name']}"
        return LayerFile(title, layout, layer["media_type"], layer["digest"], layer["diff_id"])
    return None


def _compare(first: Optional[LayerFile], second: Optional[LayerFile]) -> _Compared:
    titles = (first.title if first else "nothing", second.title if second else "nothing")
    with _content(first) as one, _content(second) as two:
        comparison = tars.compare(one, two, titles)
    return _Compared([layer for layer in (first, second) if layer is not None], comparison.differences)


def _content(layer: Optional[LayerFile]) -> "ContextManager[Readable]":
    return content_of(layer) if layer is not None else _nothing()


@contextmanager
def _nothing() -> Iterator[Readable]:
    yield io.BytesIO(_EMPTY)


def _moved(found: List[_Compared]) -> Iterator[_Compared]:
    """The same without the paths that one lone layer of each image has alike. Of what differs, the second image's layer tells."""
    before: Dict[bytes, Item] = {}
    after: Dict[bytes, Item] = {}
    for one in found:
        if not one.paired:
            before.update({path: item for path, item, _ in one.differences if item is not None})
            after.update({path: item for path, _, item in one.differences if item is not None})
    for one in found:
        if one.paired:
            yield one._replace(differences=_without_parents(one.differences))
            continue
        kept = []
        for path, left, right in one.differences:
            if left is not None and path in after:
                continue
            if right is not None and path in before:
                left = before[path]
                if left == right:
                    continue
            kept.append(Difference(path, left, right))
        yield one._replace(differences=_without_parents(kept))


def _without_parents(differences: List[Difference]) -> List[Difference]:
    """Without directories that one side has and that something of the list lies in: many layers name the same ones."""
    parents = set()
    for one in differences:
        path = one.path
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            if path in parents:
                break
            parents.add(path)

    def is_told_by_others(one: Difference) -> bool:
        item = one.first or one.second
        return (one.first is None or one.second is None) and item is not None and item.kind == "directory"

    return [one for one in differences if not (one.path in parents and is_told_by_others(one))]


def _as_json(differences: List[Difference], owners: Owners) -> Dict[str, Any]:
    return {
        "paths": [
            {
                "path": f"/{os.fsdecode(one.path)}",
                "package": owners.of(one.path),
                "before": _item(one.first),
                "after": _item(one.second),
                "fields": sorted(one.fields()),
            }
            for one in differences
        ]
    }


def _item(item: Optional[Item]) -> Optional[Dict[str, Any]]:
    return None if item is None else {**item._asdict(), "target": os.fsdecode(item.target)}


@contextmanager
def _layout(image: ImageOfDiff) -> Iterator[Path]:
    """A directory with the blobs of an image's layers, as a layout has them, as long as the context. Raises ToolError."""
    reference = image["reference"]
    if reference["kind"] == "layout":
        yield Path(reference["path"])
        return
    with temporary() as directory:
        (directory / layout_files.BLOBS).mkdir(parents=True)
        # These are not read, so that they may be empty.
        for layer in image["others"]:
            (directory / layout_files.blob_name(layer["digest"], image["name"])).touch()
        skopeo.copy_blobs(image["name"], reference, directory)
        yield directory
