"""Which tests run in one process when there are several: asked of pytest itself, with files made for that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

from tests.support.checkout import ROOT
from tests.support.groups import Times, in_order, one_process

CONFTEST = """
import pytest
from tests.support.groups import one_process

@pytest.fixture(scope="session")
def shared():
    return 1

@pytest.fixture(scope="module")
def of_the_directory():
    return 1

def pytest_collection_modifyitems(items):
    for nodeid in sorted(one_process(items, {"shared"}, "d")):
        print("FOUND", nodeid)
"""
FILES = {
    "d/conftest.py": CONFTEST,
    # By way of another fixture; the third has a fixture of the file in common with the second, the fourth with the third.
    "d/test_uses.py": """
import pytest

@pytest.fixture(scope="module")
def first():
    return 1

@pytest.fixture(scope="module")
def second():
    return 1

@pytest.fixture
def for_each(shared):
    return 1

def test_uses(for_each): pass
def test_uses_and_shares(shared, first): pass
def test_shares(first, second): pass
def test_shares_with_that(second): pass
def test_nothing(of_the_directory): pass
""",
    "d/test_one.py": "def test_one(shared, of_the_directory): pass",
    # A fixture of its own with that name, and one of the directory, which others set up anyway.
    "d/test_own.py": """
import pytest

@pytest.fixture(scope="module")
def shared():
    return 2

def test_own(shared, of_the_directory): pass
""",
}


def test_those_that_use_a_fixture_and_those_that_share_others_with_them(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-s", "-p", "no:cacheprovider", "d"]
    done = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FOUND")]
    names = ("shares", "shares_with_that", "uses", "uses_and_shares")
    assert found == ["d/test_one.py::test_one", *(f"d/test_uses.py::test_{name}" for name in names)]


def test_nothing_is_found_where_nothing_uses_it() -> None:
    assert one_process([], frozenset({"shared"}), "d") == set()


def test_long_groups_begin_first() -> None:
    groups: List[str] = ["a", "long", "b", "a", "longest", "long"]
    assert [groups[place] for place in in_order(groups, ["longest", "long"])] == [
        *("longest", "long", "long", "a", "b", "a"),
    ]
    assert in_order(groups, []) == list(range(6))


def test_times() -> None:
    times = Times()
    reports: Dict[str, List[Tuple[str, float]]] = {
        "gw1": [("d/test_a.py::test[x@y]@long", 40.0), ("d/test_a.py::test[x@y]@long", 60.0), ("b::b@short", 2.0)],
        "gw0": [("c::c@c", 31.0)],
    }
    for process, found in reports.items():
        for nodeid, seconds in found:
            times.add(process, nodeid, seconds)
    assert [line.split() for line in times.lines()] == [["31s", "gw0"], ["31s", "c"], ["102s", "gw1"], ["100s", "long"]]
