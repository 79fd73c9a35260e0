"""in_memory: what is done in memory is the same as on disk, and is done on disk where memory is no place for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.imaging import in_memory
from opam_sandbox.sandbox.namespaces import run_isolated

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts as root")

ROOM = 64 << 20


def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, body: str, fail: bool = False) -> "List[str]":
    """Where `work` did its work; it writes a log and a blob of `body`, and fails in memory if it is to."""
    monkeypatch.chdir(tmp_path)
    places = tmp_path / "places"

    def do() -> None:
        here = Path.cwd()
        with open(places, "a") as notes:
            notes.write(f"{here.name if here != tmp_path else '.'}\n")
        Path("build.log").write_text("log")
        if fail and here != tmp_path:
            raise ToolError("the memory is full")
        Path("blobs/sha256").mkdir(parents=True)
        Path("blobs/sha256/x").write_text(body)

    def main() -> int:
        in_memory.work(do, room, rootless=False)
        return 0

    assert run_isolated(main) == 0
    return places.read_text().split()


@pytest.mark.parametrize(
    ("room", "fail", "places"), [(ROOM, False, ["memory"]), (0, False, ["."]), (ROOM, True, ["memory", "."])]
)
def test_the_files_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, fail: bool, places: List[str]
) -> None:
    assert isolated(tmp_path, monkeypatch, room, "content", fail) == places
    assert (tmp_path / "blobs/sha256/x").read_text() == "content" and (tmp_path / "build.log").read_text() == "log"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs", "build.log", "places"]


def test_more_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says so, and then it is done on disk."""
    assert isolated(tmp_path, monkeypatch, 64 << 10, "x" * (1 << 20)) == ["memory", "."]
    assert (tmp_path / "blobs/sha256/x").stat().st_size == 1 << 20


def test_what_fails_on_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: "pytest.CaptureFixture[str]"
) -> None:
    monkeypatch.chdir(tmp_path)

    def fail() -> None:
        raise ToolError("two packages hold /x")

    def main() -> int:
        in_memory.work(fail, ROOM, rootless=False)
        return 0

    assert run_isolated(main) == 1
    assert "two packages hold /x" in capfd.readouterr().err and not (tmp_path / "memory").exists()
