"""An output below dist/ is left alone only while it is what an earlier run wrote there."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Callable

import pytest

from opam_oci.run_end import dist_record
from opam_oci.run_end.dist_record import DistRecord, Output

OUTPUT = Output(
    ("images/a", "images/a.json"),
    "d" * 64,
    (("images/a/index.json", 5), ("images/a/blobs/x", 7), ("images/a.json", 3)),
)
OTHER = Output(("images/b",), "e" * 64, (("images/b/blobs/x", 7),))


def write(dist: Path, output: Output) -> None:
    for path, size in output.files:
        (dist / path).parent.mkdir(parents=True, exist_ok=True)
        (dist / path).write_bytes(b"x" * size)


@pytest.fixture
def record(tmp_path: Path) -> DistRecord:
    return DistRecord(tmp_path / "dist", tmp_path / "work/dist.json")


def nothing() -> None:
    pass


@pytest.fixture
def written(tmp_path: Path, record: DistRecord) -> Path:
    """dist/ with an output that is recorded."""
    write(tmp_path / "dist", OUTPUT)
    record.update([OUTPUT], 0, nothing)
    assert record.holds(OUTPUT)
    return tmp_path / "dist"


def damage_in_place(dist: Path) -> None:
    """With the same size, and the times that one can set."""
    path = dist / "images/a/blobs/x"
    before = path.stat()
    path.write_bytes(b"y" * 7)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(dist: Path) -> None:
    os.rename(shutil.copy2(dist / "images/a/blobs/x", dist / "images/new"), dist / "images/a/blobs/x")


def copy_whole(dist: Path) -> None:
    shutil.copytree(dist, dist.parent / "copy")
    shutil.rmtree(dist)
    os.rename(dist.parent / "copy", dist)


def link(dist: Path) -> None:
    os.rename(dist / "images/a.json", dist / "other.json")
    os.symlink("../other.json", dist / "images/a.json")


CHANGES: "dict[str, Callable[[Path], object]]" = {
    "a file in place": damage_in_place,
    "another file": replace,
    "a copy of the whole": copy_whole,
    "one file less": lambda dist: os.remove(dist / "images/a/index.json"),
    "the second path gone": lambda dist: os.remove(dist / "images/a.json"),
    "all gone": shutil.rmtree,
    "one file more": lambda dist: (dist / "images/a/blobs/y").write_text(""),
    "a directory more": lambda dist: (dist / "images/a/y").mkdir(),
    "a mode": lambda dist: os.chmod(dist / "images/a/index.json", 0o600),
    "a directory's mode": lambda dist: os.chmod(dist / "images/a/blobs", 0o700),
    "a link for a file": link,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_somebody_has_changed_is_not_kept(
    written: Path, record: DistRecord, change: Callable[[Path], object]
) -> None:
    change(written)
    assert not record.holds(OUTPUT)


def test_another_content_is_not_kept(written: Path, record: DistRecord) -> None:
    assert not record.holds(Output(OUTPUT.paths, "f" * 64, OUTPUT.files))
    assert not record.holds(Output(OUTPUT.paths[:1], OUTPUT.digest, OUTPUT.files))
    assert not record.holds(OTHER)


def test_after_another_boot_nothing_is_kept(written: Path, record: DistRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist_record, "_boot", lambda: "another")
    assert not record.holds(OUTPUT)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"version": 1}', b'{"version": 2, "outputs": {}}', b"\xff"])
def test_a_damaged_record_keeps_nothing(written: Path, record: DistRecord, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "work/dist.json").write_bytes(content)
    assert not record.holds(OUTPUT)
    record.update([OUTPUT], 0, nothing)
    assert record.holds(OUTPUT)


def test_what_was_not_written_whole_is_not_kept(tmp_path: Path, record: DistRecord) -> None:
    write(tmp_path / "dist", OUTPUT)
    os.truncate(tmp_path / "dist/images/a/blobs/x", 6)
    record.update([OUTPUT], 0, nothing)
    assert not record.holds(OUTPUT)


def test_what_links_of_equal_blobs_change_is_kept(written: Path, record: DistRecord) -> None:
    """Of this run's output, and of one that an earlier run has written."""

    def link_blobs() -> None:
        os.remove(written / "images/a/blobs/x")
        os.link(written / "images/b/blobs/x", written / "images/a/blobs/x")

    write(written, OTHER)
    record.update([OTHER], 0, link_blobs)
    assert record.holds(OTHER) and record.holds(OUTPUT)
    assert os.listdir(written.parent / "work") == ["dist.json"]


def test_what_was_changed_before_stays_unknown(written: Path, record: DistRecord) -> None:
    damage_in_place(written)
    write(written, OTHER)
    record.update([OTHER], 0, nothing)
    assert record.holds(OTHER) and not record.holds(OUTPUT)


def test_what_is_older_than_the_run_is_not_its_own(tmp_path: Path, record: DistRecord) -> None:
    """Of the same names and sizes, as archives of two versions may be."""
    write(tmp_path / "dist", OUTPUT)
    time.sleep(0.05)
    record.update([OUTPUT], time.time_ns(), nothing)
    assert not record.holds(OUTPUT)
