"""Finds files with several names of which a build has changed one.

On one disk, a file that is written to under one name is another one under all its names. overlayfs copies what lies below into
the layer under the one name alone, and the others keep what they had: in no installation by hand would the image look so.
Whether the file was written to, or another one put into its place (then the other names rightly keep it), cannot be seen
afterwards. So this is an error, and no guess. Only outside of opam's home, where dpkg and its scripts put whole files into the
place of others, is another content taken to be another file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Iterator, Sequence

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import ownership
from opam_sandbox.layer.capture import Captured
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import layer_paths, view_files

_CHUNK = 1 << 20


def check(store: Store, layers: Sequence[Layer], upper: Path, captured: Captured) -> None:
    """Raises ToolError that names a file that `upper` changes, its other names, and whose they are."""
    titles = {store.path(layer.diff_id): layer.title for layer in layers}
    for path, below in captured.over_links:
        name, directory = os.fsdecode(path), Path(os.fsdecode(below[: -len(path) - 1]))
        if not _is_changed(upper, directory, name):
            continue
        left = next((other for other in _names(directory, name) if not _is_hidden(upper, other, store.rootless)), None)
        if left is not None:
            raise ToolError(
                f"/{name} of {titles.get(directory, 'a layer below')} was changed. There it is one file with /{left}, which a "
                "layer cannot change along with it. Have the package remove all these names, and write anew those that it "
                "wants."
            )


def _is_changed(upper: Path, lower: Path, name: str) -> bool:
    here, there = view_files.status(upper, name), view_files.status(lower, name)
    if here is None or there is None:
        return False
    if here.st_size != there.st_size or not _has_same_content(upper, lower, name):
        return ownership.is_opams(os.fsencode(name))
    return stat.S_IMODE(here.st_mode) != stat.S_IMODE(there.st_mode)


def _has_same_content(upper: Path, lower: Path, name: str) -> bool:
    first, second = (view_files.open_file(root, name, links=False) for root in (upper, lower))
    if first is None or second is None:
        return False
    with first, second:
        while True:
            content = first.read(_CHUNK)
            if content != second.read(_CHUNK):
                return False
            if not content:
                return True


def _names(root: Path, name: str) -> Iterator[str]:
    """The other names of a file."""
    wanted = view_files.status(root, name)
    for other in view_files.walk(root):
        found = view_files.status(root, other)
        if other != name and wanted and found and (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            yield other


def _is_hidden(upper: Path, name: str, rootless: bool) -> bool:
    """Whether the change has something of its own in this place, or on the way to it."""
    found = layer_paths.look(os.fsencode(upper), os.fsencode(name), rootless)
    return found.status is not None or found.hides
