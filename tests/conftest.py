"""What tests of every kind share."""

from __future__ import annotations

import faulthandler
from pathlib import Path
from typing import Iterator, List

import pytest
from _pytest.faulthandler import fault_handler_stderr_key

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


# Seconds after which a test hangs: many times what the longest one takes, with the fixtures that it may be the first to use.
_UNIT_LIMIT = 600
_E2E_LIMIT = 2400


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that hangs ends its process, after the stacks of all threads: xdist reports it by name, and the others go on. This
    needs nothing of Python, so that it works where a thread waits forever in native code as well."""
    limit = _E2E_LIMIT if "tests/e2e/" in item.nodeid else _UNIT_LIMIT
    faulthandler.dump_traceback_later(limit, exit=True, file=item.config.stash[fault_handler_stderr_key])
    yield
    faulthandler.cancel_dump_traceback_later()
