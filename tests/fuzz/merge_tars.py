"""merge: what it takes is what unpack takes, and the merged layer shows what the layer shows."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.merge_tars import merge
from opam_sandbox.layer.unpack import unpack
from tests.fuzz import unpack as tars

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SEEDS: List[bytes] = tars.SEEDS
Tree = Dict[bytes, Tuple[object, ...]]


class _Kept:
    """A sink."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def _merged(*archives: bytes) -> Optional[bytes]:
    sink = _Kept()
    try:
        merge([io.BytesIO(archive) for archive in archives], sink, False)
    except ToolError:
        return None
    return sink.data


def tree(root: Path) -> Tree:
    """All that an unpacked layer holds, but for times of directories."""
    result: Tree = {}
    first: Dict[int, bytes] = {}
    waiting = [b""]
    top = os.fsencode(root)
    while waiting:
        below = waiting.pop()
        for name in os.listdir(os.path.join(top, below)):
            path = os.path.join(below, name)
            full = os.path.join(top, path)
            found = os.lstat(full)
            directory = stat.S_ISDIR(found.st_mode)
            attributes = tuple(
                (key, os.getxattr(full, key, follow_symlinks=False))
                for key in sorted(os.listxattr(full, follow_symlinks=False))
            )
            content: object = None
            if stat.S_ISREG(found.st_mode):
                with open(full, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(found.st_mode):
                content = os.readlink(full)
            whiteout = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
            time = None if directory or whiteout else int(found.st_mtime)
            linked = None if directory else first.setdefault(found.st_ino, path) if found.st_nlink > 1 else path
            result[path] = (
                found.st_mode,
                found.st_uid,
                found.st_gid,
                found.st_rdev,
                attributes,
                content,
                time,
                linked is None,
            )
            if directory:
                waiting.append(path)
    return result


def _unpacked(archive: bytes) -> "Tuple[Optional[Tree], str]":
    """The tree, or why there is none."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "target")
        target.mkdir()
        try:
            unpack(io.BytesIO(archive), target, rootless=os.geteuid() != 0)
        except ToolError as error:
            return None, str(error)
        return tree(target), ""


def run(data: bytes) -> None:
    """Unpack and merge `data`, and the archive that it almost is."""
    for archive in {data, tars.mended(data)}:
        shown, why = _unpacked(archive)
        merged = _merged(archive)
        if shown is None:
            # What this machine cannot make, such as an attribute, the archive may hold.
            assert merged is None or "does not unpack" in why, f"merge takes what unpack refuses: {why}"
            continue
        assert merged is not None, "merge refuses what unpack takes"
        again, why = _unpacked(merged)
        assert again is not None, f"unpack refuses what merge made: {why}"
        assert again == shown, "a merged layer shows something else"
        assert _merged(merged) == merged, "merged once more, it is another"
    _compare_views([tars.mended(archive) for archive in split(data)])


def split(data: bytes) -> List[bytes]:
    """The archives that are one after another in `data`."""
    found: List[bytes] = []
    at = start = 0
    while at < len(data):
        at += 512
        if not any(data[at - 512 : at + 512]):
            at += 512
            found.append(data[start:at])
            start = at
    return [*found, data[start:]] if start < len(data) else found


# What lies below, by paths: directories have an inode of None.
_BELOW: Tree = {
    path: (0o40755, None) if path in (b"a", b"a/b", b"b") else (0o100644, path)
    for path in (b"a", b"a/b", b"a/b/c", b"a/b/d", b"a/x", b"b", b"b/y", b"c")
}


def _compare_views(archives: List[bytes]) -> None:
    """Layers on one another show what they show merged."""
    layers = [_unpacked(archive)[0] for archive in archives[:4]]
    if len(layers) < 2 or None in layers:
        return
    merged = _merged(*archives[:4])
    assert merged is not None, "merge refuses layers that it takes one by one"
    one, why = _unpacked(merged)
    assert one is not None, f"unpack refuses what merge made: {why}"
    view, other = dict(_BELOW), dict(_BELOW)
    for layer in layers:
        assert layer is not None
        _put_over(view, layer)
    _put_over(other, one)
    assert view == other, "merged layers show something else than the layers"


def _put_over(view: Tree, layer: Tree) -> None:
    """As overlayfs shows an unpacked layer over what was there. Of directories, nothing but that they are there."""
    for path in sorted(layer):
        mode, *rest = layer[path]
        assert isinstance(mode, int)
        attributes = dict(rest[3])  # type: ignore[call-overload]
        below = [other for other in view if other.startswith(path + b"/")]
        if stat.S_ISCHR(mode) and rest[2] == 0:
            for other in [path, *below]:
                view.pop(other, None)
        elif not stat.S_ISDIR(mode):
            for other in below:
                del view[other]
            view[path] = layer[path]
        else:
            old = view.get(path)
            hidden = old is not None and not stat.S_ISDIR(int(str(old[0])))
            for other in below if hidden or any(key.endswith(".overlay.opaque") for key in attributes) else ():
                del view[other]
            view[path] = (0o40755, None)


def examples() -> "SearchStrategy[bytes]":
    """As for `unpack`, one or several after each other."""
    from hypothesis import strategies as st

    return st.one_of(tars.examples(), st.lists(tars.examples(), min_size=2, max_size=3).map(b"".join))
