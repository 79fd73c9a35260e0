"""Access control lists that a rule takes away: what may be read and written stays, for all but those that the list names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from opam_sandbox.beside import access_lists, machine_files
from opam_sandbox.errors import ToolError
from tests.unit.test_capture import NOBODY, access_list, capture_tree

ADM = 4


def listed(group: int, mask: int) -> bytes:
    """u::rwx, g::`group`, g:adm:r-x, m::`mask`, o::r-x"""
    return access_list((1, 7, NOBODY), (4, group, NOBODY), (8, 5, ADM), (16, mask, NOBODY), (32, 5, NOBODY))


@pytest.mark.parametrize(("group", "mask", "mode"), [(5, 5, 0o755), (0, 5, 0o705), (7, 5, 0o755), (4, 7, 0o745)])
def test_the_groups_part_of_the_mode(tmp_path: Path, group: int, mask: int, mode: int) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for name in (access_lists.ACCESS, access_lists.DEFAULT):
        os.setxattr(place, name, listed(group, mask))
    place.chmod(stat.S_IMODE(place.stat().st_mode) | stat.S_ISGID)
    access_lists.remove(tmp_path, "place")
    assert os.listxattr(place) == []
    assert stat.S_IMODE(place.stat().st_mode) == mode | stat.S_ISGID


def test_without_a_list_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o6750)
    access_lists.remove(tmp_path, "file")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o6750


def test_of_systemds_journal_and_of_nothing_else(tmp_path: Path) -> None:
    """Also where a .deb has the directory, which its script gives the list."""
    for name in ("var/log/journal/remote", "var/lib/dpkg/info"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/info/systemd.list").write_text("/var/log/journal\n")
    for name in ("var/log/journal", "var/log/journal/remote"):
        os.setxattr(tmp_path / name, access_lists.DEFAULT, listed(5, 5))
        os.setxattr(tmp_path / name, access_lists.ACCESS, listed(5, 5))
    machine_files.settle(tmp_path, [])
    assert capture_tree(tmp_path)
    os.setxattr(tmp_path / "var/log", access_lists.DEFAULT, listed(5, 5))
    machine_files.settle(tmp_path, [])
    with pytest.raises(ToolError, match="/var/log has an access control list"):
        capture_tree(tmp_path)
