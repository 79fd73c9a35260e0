"""view_files: what the tool reads and writes in a view stays in the view."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import view_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory in the place of a mounted view, beside a file and a directory that are not of it."""
    made = tmp_path / "scratch/root"
    made.mkdir(parents=True)
    (made.parent / "outside").mkdir()
    (made.parent / "secret").write_text("alive")
    return made


def test_write(root: Path) -> None:
    """Directories are made as needed, files replaced, links at the end of a path not followed."""
    os.symlink(root.parent / "secret", root / "link")
    made = view_files.write_all(root, [("a/b/c", b"1"), ("a/b/c", b"2"), ("link", b"new")])
    assert made[:3] == [root / "a", root / "a/b", root / "a/b/c"]
    assert (root / "a/b/c").read_bytes() == b"2"
    assert (root.parent / "secret").read_text() == "alive"
    assert (root / "link").read_bytes() == b"new"


def test_a_directory_in_the_place_of_a_file(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    with pytest.raises(ToolError, match="/a/b is a directory"):
        view_files.write(root, "a/b", b"")


@pytest.mark.parametrize("target", ["/", "../outside"])
def test_nothing_is_written_through_a_link_of_a_package(root: Path, target: str) -> None:
    """A package's layer may have turned a directory of opam's into a symlink; from outside it would lead to the host."""
    (root / "home/opam").mkdir(parents=True)
    os.symlink(target, root / "home/opam/.opam")
    for work in (
        lambda: view_files.write(root, "home/opam/.opam/canary-of-a-test/x", b""),
        lambda: view_files.make_directories(root, "home/opam/.opam/canary-of-a-test"),
        lambda: view_files.place(root, "home/opam/.opam/x"),
        lambda: view_files.overwrite(root, "home/opam/.opam", b""),
    ):
        with pytest.raises(ToolError, match="/home/opam/.opam is a symlink"):
            work()
    assert not Path("/canary-of-a-test").exists() and not list((root.parent / "outside").iterdir())


def test_links_are_followed_inside(root: Path) -> None:
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/a.so.1").write_text("library")
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/a.so").symlink_to("/lib/a.so.1")
    (root / "loop").symlink_to("loop")
    (root / "out").symlink_to("../secret")
    assert view_files.resolve(root, "lib/a.so") == "usr/lib/a.so.1"
    assert view_files.read_text(root, "lib/a.so") == "library"
    assert view_files.read(root, "lib/a.so", links=False) is None and view_files.read(
        root, "usr/lib/a.so.1", links=False
    )
    assert view_files.names(root, "lib") == ["a.so", "a.so.1"] and view_files.names(root, "out") == []
    for name in ("loop", "out", "absent", "../secret"):
        assert view_files.resolve(root, name) is None and view_files.read(root, name) is None
        assert not view_files.exists(root, name)
