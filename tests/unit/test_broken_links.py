"""A file that a layer below has under several names, and of which a build changes one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Callable

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import broken_links, ownership
from opam_sandbox.layer.capture import Captured, capture
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.sandbox.overlay import Overlay
from tests.unit.conftest import Collected, Namespaces

DIFF_ID = "sha256:" + 64 * "a"
HOME = "home/opam/.opam/default"
PROGRAMS = (f"{HOME}/bin/one", f"{HOME}/bin/two", f"{HOME}/lib/deep/three")
DEBIANS = ("usr/bin/first", "usr/bin/second")


def change(tmp_path: Path, work: Callable[[Path], None]) -> str:
    """Have `work` change a view of one layer; what is said of what that broke, or "" for nothing."""
    store = Store(tmp_path / "store", rootless=False)
    lower = store.path(DIFF_ID)
    for name in ("dev", "proc", "tmp", "usr/bin", f"{HOME}/bin", f"{HOME}/lib/deep"):
        (lower / name).mkdir(parents=True)
    (lower / PROGRAMS[0]).write_text("a program")
    for name in PROGRAMS[1:]:
        os.link(lower / PROGRAMS[0], lower / name)
    (lower / DEBIANS[0]).write_text("a program")
    os.link(lower / DEBIANS[0], lower / DEBIANS[1])
    (lower / HOME / "bin/single").write_text("of one name")
    overlay = Overlay([lower], tmp_path / "build", rootless=False)
    overlay.mount()
    try:
        work(overlay.root)
        overlay.unmount()
        captured: Captured = capture(
            overlay.upper,
            Rules(skip=ownership.is_shared, owner=lambda path, _: ownership.owner(path), lower=overlay.lower),
            Collected(),
        )
        layer = Layer(Path("a"), "package", "a", "1", DIFF_ID, DIFF_ID, 1, "", 1, {}, {})
        broken_links.check(store, [layer], overlay.upper, captured)
    except ToolError as error:
        return str(error)
    finally:
        overlay.remove()
    return ""


def append(root: Path) -> None:
    with open(root / PROGRAMS[0], "a") as out:
        out.write(", and more")


def replace(root: Path) -> None:
    (root / HOME / "bin/new").write_text("another")
    os.replace(root / HOME / "bin/new", root / PROGRAMS[0])


@pytest.mark.parametrize("work", [append, replace, lambda root: os.chmod(root / PROGRAMS[0], 0o700)])
def test_one_name_is_changed(namespaces: Namespaces, tmp_path: Path, work: Callable[[Path], None]) -> None:
    said = namespaces(lambda: change(tmp_path, work))
    assert f"/{PROGRAMS[0]} of a.1 was changed. There it is one file with /{PROGRAMS[1]}" in said


def test_the_mode_of_a_debian_file(namespaces: Namespaces, tmp_path: Path) -> None:
    """As by a statoverride: no file was put into its place."""
    said = namespaces(lambda: change(tmp_path, lambda root: os.chmod(root / DEBIANS[0], 0o700)))
    assert f"/{DEBIANS[0]} of a.1 was changed" in said


def debian_file_replaced(root: Path) -> None:
    (root / "usr/bin/new").write_text("another")
    os.replace(root / "usr/bin/new", root / DEBIANS[0])


def all_anew(root: Path) -> None:
    for name in PROGRAMS:
        (root / name).unlink()
    (root / PROGRAMS[0]).write_text("another")


def all_changed(root: Path) -> None:
    for name in PROGRAMS:
        (root / name).write_text("another")


def directory_anew(root: Path) -> None:
    (root / PROGRAMS[0]).write_text("another")
    (root / PROGRAMS[1]).unlink()
    shutil.rmtree(root / HOME / "lib/deep")
    (root / HOME / "lib/deep").mkdir()


def touched(root: Path) -> None:
    os.utime(root / PROGRAMS[0], (1, 1))


def one_removed(root: Path) -> None:
    (root / PROGRAMS[0]).unlink()


def another_file(root: Path) -> None:
    (root / HOME / "bin/single").write_text("another")


@pytest.mark.parametrize(
    "work", [all_anew, all_changed, directory_anew, touched, one_removed, another_file, debian_file_replaced]
)
def test_nothing_is_broken(namespaces: Namespaces, tmp_path: Path, work: Callable[[Path], None]) -> None:
    assert namespaces(lambda: change(tmp_path, work)) == ""
