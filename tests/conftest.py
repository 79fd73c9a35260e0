"""What tests of every kind share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.snapshot import NoSnapshotError, find_snapshot


@pytest.fixture(scope="session")
def public_repository() -> Path:
    """A snapshot of the public opam repository, as a tar archive. Without one the test is skipped, and says why."""
    try:
        return find_snapshot()
    except NoSnapshotError as error:
        pytest.skip(str(error))
