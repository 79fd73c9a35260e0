"""What tests of every kind share."""

from __future__ import annotations

import faulthandler
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from _pytest.faulthandler import fault_handler_stderr_key

from tests.support.groups import Times, file_of, in_order, one_process
from tests.support.snapshot import NoSnapshotError, find_snapshot


@pytest.fixture(scope="session")
def public_repository() -> Path:
    """A snapshot of the public opam repository, as a tar archive. Without one the test is skipped, and says why."""
    try:
        return find_snapshot()
    except NoSnapshotError as error:
        pytest.skip(str(error))


# Fixtures of which there is one for all tests that use this checkout, and its daemon.
_HERE = frozenset({"pants", "hello", "zero_install", "cold"})
_CHECKOUT = "this checkout"

# The groups that take longest begin first, so that no process is left alone with one at the end. A run of all tests prints
# how long each took.
_FIRST = (
    _CHECKOUT,
    "tests/e2e/test_odd_places.py",
    "tests/e2e/test_docs.py",
    "tests/e2e/test_local_projects.py",
    "tests/e2e/test_fresh_machine.py",
    "tests/e2e/test_wheel.py",
    "tests/e2e/test_pants_on_itself.py",
    "tests/e2e/test_depexts.py",
    "tests/e2e/test_locking.py",
    "tests/e2e/test_secrets_of_callers.py",
)


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in a hook of this name
def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Say which tests run in one process when there are several: those of a file, and all that use this checkout."""
    here = one_process(items, _HERE, "tests/e2e")
    groups = [_CHECKOUT if item.nodeid in here else file_of(item) for item in items]
    for item, group in zip(items, groups):
        item.add_marker(pytest.mark.xdist_group(group))
    items[:] = [items[place] for place in in_order(groups, _FIRST)]


_times = Times()


def pytest_runtest_logreport(report: Any) -> None:
    if hasattr(report, "node"):  # of one of several processes
        _times.add(report.node.gateway.id, report.nodeid, report.duration)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = _times.lines()
    if lines:
        terminalreporter.section("seconds of processes and groups")
        for line in lines:
            terminalreporter.write_line(line)


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
