"""What tests of every kind share."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest

from tests.support.snapshot import NoSnapshotError, find_snapshot


@pytest.fixture(scope="session")
def public_repository() -> Path:
    """A snapshot of the public opam repository, as a tar archive. Without one the test is skipped, and says why."""
    try:
        return find_snapshot()
    except NoSnapshotError as error:
        pytest.skip(str(error))


# Fixtures of which there is one for all tests that use this checkout, and its daemon.
_HERE = {"pants", "hello", "zero_install", "cold"}


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in a hook of this name
def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Say which tests run in one process when there are several: those of a file, and all that use this checkout."""
    for item in items:
        here = _HERE.intersection(getattr(item, "fixturenames", ()))
        item.add_marker(pytest.mark.xdist_group("this checkout" if here else item.nodeid.partition("::")[0]))
