"""What a layer has at a path, and what it hides: overlayfs is asked, of both kinds of mount."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Dict

import pytest

from opam_sandbox.layer import ownership
from opam_sandbox.layer.capture import capture
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.sandbox import layer_paths
from opam_sandbox.sandbox.stack import Stack
from tests.unit.conftest import Namespaces

# path -> whether the layer has something there, and whether it hides what lies below.
TABLE = {
    "file": (True, True),
    "link": (True, True),
    "link/below": (False, True),
    "file/below": (False, True),
    "gone": (False, True),
    "gone/below/it": (False, True),
    "plain": (True, False),
    "plain/file": (True, True),
    "plain/other": (False, False),
    "plain/other/below": (False, False),
    "opaque": (True, True),
    "opaque/other": (False, True),
    "opaque/other/below": (False, True),
    "opaque/plain": (True, True),
    "nowhere": (False, False),
}


def make_layer(directory: Path, attribute: str) -> None:
    for name in ("plain", "opaque/plain"):
        (directory / name).mkdir(parents=True)
    for name in ("file", "plain/file"):
        (directory / name).write_text("upper")
    (directory / "link").symlink_to("plain")
    os.mknod(directory / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.setxattr(directory / "opaque", attribute, b"y")


@pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts, trusted attributes: needs root")
@pytest.mark.parametrize("rootless", [False, True])
def test_what_a_layer_has_at_a_path(tmp_path: Path, rootless: bool) -> None:
    make_layer(tmp_path, layer_paths.opaque_attribute(rootless))
    found: Dict[str, object] = {}
    for path in TABLE:
        here = layer_paths.look(os.fsencode(tmp_path), os.fsencode(path), rootless)
        found[path] = (here.status is not None, here.hides)
    assert found == TABLE


@pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts, trusted attributes: needs root")
def test_overlayfs_agrees(tmp_path: Path, namespaces: Namespaces) -> None:
    """Below lies a file at every path of the table, where there can be one."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    paths = [path for path in TABLE if not any(other.startswith(f"{path}/") for other in TABLE)]
    for path in paths:
        (lower / path).parent.mkdir(parents=True, exist_ok=True)
        (lower / path).write_text("lower")
    make_layer(upper, layer_paths.opaque_attribute(False))

    def inside() -> int:
        stack = Stack([lower, upper], tmp_path / "scratch", False)
        stack.mount()
        for path in paths:
            seen = (stack.root / path).is_file() and (stack.root / path).read_text() == "lower"
            here = layer_paths.look(os.fsencode(upper), os.fsencode(path), False)
            assert seen == (not here.hides), path
        merged = stack.merged_directories(stack.lower, "opaque")
        assert merged == [os.fsencode(upper / "opaque")]
        both = stack.merged_directories(stack.lower, "plain")
        assert both == [os.fsencode(top / "plain") for top in (upper, lower)]
        assert stack.merged_directories(stack.lower, "link") == []
        stack.remove()
        return 0

    assert namespaces(inside) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="trusted attributes: needs root")
@pytest.mark.parametrize("rootless", [False, True])
def test_the_other_kinds_attribute_means_nothing(tmp_path: Path, rootless: bool) -> None:
    """Whoever builds may set it: in the build, what lies below is still seen."""
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for path in (upper / "right", upper / "other", lower / "right", lower / "other"):
        path.mkdir(parents=True)
    os.setxattr(upper / "right", layer_paths.opaque_attribute(rootless), b"y")
    os.setxattr(upper / "other", layer_paths.opaque_attribute(not rootless), b"y")
    (upper / "other/file").write_text("")
    rules = Rules(skip=ownership.is_shared, owner=lambda path, _: (0, 0), lower=[os.fsencode(lower)], rootless=rootless)

    class Nowhere:
        def write(self, data: bytes) -> None:
            pass

    assert capture(upper, rules, Nowhere()).opaque == [b"right"]
