"""At the end of a run, Pants says which of its disks are full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opam_oci.run_end.full_disks import Place, full
from tests.support import disks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts small file systems: needs root")


def places(top: Path) -> "tuple[Place, ...]":
    return (
        Place(top / "not/there/yet", "Pants' store", "[GLOBAL].local_store_dir"),
        Place(top, "sandboxes", "[GLOBAL].local_execution_root_dir"),
        Place(top / "dist", "what is packaged", "[GLOBAL].pants_distdir"),
    )


def told(top: Path, size: int, written: int = 0, options: str = "") -> "list[str]":
    def work() -> "list[str]":
        with disks.memory(top, size, options=options):
            (top / "file").write_bytes(bytes(written))
            return full(places(top))

    try:
        return disks.apart(work)
    except disks.NoDiskError as error:
        pytest.skip(str(error))


def test_a_disk_with_room(tmp_path: Path) -> None:
    assert told(tmp_path / "disk", 64 << 20) == []


@pytest.mark.parametrize("left", [0, 4096, (4 << 20) - 4096])
def test_all_that_is_on_a_full_disk_is_named_at_once(tmp_path: Path, left: int) -> None:
    top = tmp_path / "disk"
    [sentence] = told(top, 16 << 20, (16 << 20) - left)
    assert sentence == (
        f"The disk of {top}/not/there/yet (Pants' store) and {top} (sandboxes) and {top}/dist (what is packaged) is full: "
        f"{left:,} bytes are left. Make room there, or set [GLOBAL].local_store_dir or [GLOBAL].local_execution_root_dir or "
        "[GLOBAL].pants_distdir."
    )


def test_no_more_files(tmp_path: Path) -> None:
    [sentence] = told(tmp_path / "disk", 64 << 20, options="nr_inodes=10")
    assert " is full: 8 more files can be made. " in sentence
