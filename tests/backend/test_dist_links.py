"""Equal blobs below dist/ are one file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Sequence

import pytest

from opam_oci.run_end.dist_links import BlobLinker, Outputs, link_equal_blobs
from opam_oci.run_end.dist_record import DistRecord, Output

SHARED, OTHER = "a" * 64, "b" * 64


def blob(dist: Path, layout: str, name: str, content: bytes = b"content") -> Path:
    path = dist / layout / "blobs/sha256" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def output(layout: str) -> Output:
    return Output((layout,), "d" * 64, ((f"{layout}/blobs/sha256/{SHARED}", 7),))


def linker_of(dist: Path, *outputs: Output, links: bool = True) -> "tuple[BlobLinker, DistRecord]":
    """At the start of a run that will write these."""
    record, noted = DistRecord(dist, dist.parent / f"{dist.name}.record/dist.json"), Outputs()
    for one in outputs:
        noted.add(one)
    linker = BlobLinker(dist, record, noted, links)
    time.sleep(0.05)  # a file's time is as fine as the kernel's clock
    return linker, record


def end_run(linker: BlobLinker, finished: bool = True, goals: Sequence[str] = ("package",)) -> None:
    context: Any = SimpleNamespace(run_tracker=SimpleNamespace(goals=goals))
    linker(started_workunits=(), completed_workunits=(), finished=finished, context=context)


def test_equal_blobs_become_one_file(tmp_path: Path) -> None:
    one, two = blob(tmp_path, "images/one", SHARED), blob(tmp_path, "two", SHARED)
    own = blob(tmp_path, "two", OTHER)
    assert link_equal_blobs(tmp_path, 0) == len(b"content")
    assert one.samefile(two) and one.stat().st_nlink == 2 and own.stat().st_nlink == 1
    assert one.read_bytes() == b"content"
    assert sorted(os.listdir(one.parent)) == [SHARED]
    assert link_equal_blobs(tmp_path, 0) == 0


def test_a_layout_that_is_written_again_is_linked_again(tmp_path: Path) -> None:
    one, two, three = (blob(tmp_path, name, SHARED) for name in ("one", "two", "three"))
    link_equal_blobs(tmp_path, 0)
    time.sleep(0.05)  # a file's time is as fine as the kernel's clock
    one.unlink()
    blob(tmp_path, "one", SHARED)
    fresh = one.stat().st_ino
    # Three names but two files: linking saves one of them.
    assert link_equal_blobs(tmp_path, 0) == len(b"content")
    assert {path.stat().st_ino for path in (one, two, three)} == {fresh}


def test_what_an_earlier_run_left_is_not_trusted(tmp_path: Path) -> None:
    one, damaged = blob(tmp_path, "one", SHARED), blob(tmp_path, "two", SHARED, b"CONTENT")
    time.sleep(0.05)
    since = time.time_ns()
    assert link_equal_blobs(tmp_path, since) == 0
    assert (one.read_bytes(), damaged.read_bytes()) == (b"content", b"CONTENT")
    time.sleep(0.05)
    one.unlink()
    blob(tmp_path, "one", SHARED)
    link_equal_blobs(tmp_path, since)
    assert damaged.read_bytes() == b"content"


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    cut, whole = blob(tmp_path, "cut", SHARED, b"cont"), blob(tmp_path, "whole", SHARED)
    readme, again = blob(tmp_path, "cut", "README"), blob(tmp_path, "whole", "README")
    target = blob(tmp_path, "elsewhere", OTHER)
    link = tmp_path / "whole/blobs/sha256" / OTHER
    link.symlink_to(target)
    assert link_equal_blobs(tmp_path, 0) == 0
    assert (cut.read_bytes(), whole.read_bytes()) == (b"cont", b"content")
    assert not readme.samefile(again) and link.is_symlink()


@pytest.mark.parametrize(
    ("goals", "finished", "linked"),
    [(["package"], True, True), (["package"], False, False), (["list"], True, False)],
)
def test_only_the_end_of_package_links(tmp_path: Path, goals: list[str], finished: bool, linked: bool) -> None:
    linker, record = linker_of(tmp_path, output("one"), output("two"))
    one, two = blob(tmp_path, "one", SHARED), blob(tmp_path, "two", SHARED)
    end_run(linker, finished, goals)
    assert one.samefile(two) is linked
    assert record.holds(output("one")) is record.holds(output("two")) is linked


def test_where_blobs_are_not_linked_outputs_are_recorded(tmp_path: Path) -> None:
    linker, record = linker_of(tmp_path, output("one"), output("two"), links=False)
    one, two = blob(tmp_path, "one", SHARED), blob(tmp_path, "two", SHARED)
    end_run(linker)
    assert not one.samefile(two) and record.holds(output("one"))


def test_no_dist_is_no_error(tmp_path: Path) -> None:
    linker, record = linker_of(tmp_path / "dist", output("one"))
    end_run(linker)
    assert not record.holds(output("one"))


def test_what_an_earlier_run_left_is_not_recorded(tmp_path: Path) -> None:
    """Such as where this one has failed before it wrote."""
    blob(tmp_path, "one", SHARED)
    time.sleep(0.05)
    linker, record = linker_of(tmp_path, output("one"))
    end_run(linker)
    assert not record.holds(output("one"))


def test_a_file_system_without_links_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linker, record = linker_of(tmp_path, output("one"), output("two"))
    one, two = blob(tmp_path, "one", SHARED), blob(tmp_path, "two", SHARED)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    end_run(linker)
    assert one.read_bytes() == two.read_bytes() == b"content"
    assert record.holds(output("one"))
