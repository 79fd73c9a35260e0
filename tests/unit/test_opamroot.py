"""opamroot: what the tool writes into the view stays in the view."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opam_sandbox import opamfile
from opam_sandbox.errors import ToolError
from opam_sandbox.opamroot import stripped, switch_state, write_files
from opam_sandbox.overlay import Overlay


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    """Not mounted: its root is a plain directory here."""
    made = Overlay([], tmp_path / "scratch", rootless=True)
    made.root.mkdir(parents=True)
    return made


def test_write_files(overlay: Overlay) -> None:
    """Directories are made as needed, files replaced, links at the end of a path not followed."""
    outside = overlay.root.parent / "outside"
    outside.write_text("alive")
    os.symlink(outside, overlay.root / "link")
    write_files(overlay, [("a/b/c", b"1"), ("a/b/c", b"2"), ("link", b"new")])
    assert (overlay.root / "a/b/c").read_bytes() == b"2"
    assert outside.read_text() == "alive"
    assert (overlay.root / "link").read_bytes() == b"new"


@pytest.mark.parametrize("target", ["/", "../outside"])
def test_nothing_is_written_through_a_link_of_a_package(overlay: Overlay, target: str) -> None:
    """A package's layer may have turned a directory of opam's into a symlink; from outside it would lead to the host."""
    (overlay.root / "home/opam").mkdir(parents=True)
    (overlay.root.parent / "outside").mkdir()
    os.symlink(target, overlay.root / "home/opam/.opam")
    with pytest.raises(ToolError, match="/home/opam/.opam is a symlink"):
        write_files(overlay, [("home/opam/.opam/canary-of-a-test/x", b"")])
    assert not Path("/canary-of-a-test").exists()


def test_stripped() -> None:
    """What would make opam solve, fetch or ask is gone; how to build is not."""
    text = 'opam-version: "2.0"\ndepends: ["a" {>= "1"}]\nbuild: [make]\ndepexts: [["x"]]\nurl {\n  src: "u"\n}\n'
    items = opamfile.parse(stripped(text, "t"), "t")
    assert [item.name for item in items] == ["opam-version", "build"]


def test_switch_state_is_sorted_and_parses() -> None:
    text = switch_state(["b.1", "a.2"], ["b.1"])
    items = {item.name: item.value for item in opamfile.parse(text, "t")}
    assert items["installed"] == opamfile.ListOf((opamfile.Str("a.2"), opamfile.Str("b.1")))
    assert items["roots"] == opamfile.ListOf((opamfile.Str("b.1"),))
