"""shown_log: what a log says is on standard output while it grows, and whatever becomes of the process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Callable

import pytest

from opam_sandbox.building.shown_log import shown
from tests.support.child import start_child


def start(here: Path, body: Callable[[], None], most: int = 1000) -> int:
    """A process that shows here/log in here/out, and does `body` meanwhile."""

    def main() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # another test's program may have changed it
        with shown("log", most):
            body()
        return 0

    streams = [os.open("/dev/null", os.O_RDONLY)]
    streams += [os.open(here / name, os.O_RDWR | os.O_CREAT, 0o644) for name in ("out", "err")]
    child = start_child(main, here, streams)
    for descriptor in streams:
        os.close(descriptor)
    return child


def write(text: str) -> None:
    with open("log", "a") as log:
        log.write(text)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1999, "abcdefghij" * 199 + "abcdefghi"),
        (2000, "abcdefghij" * 200),
        (2005, "abcdefghij" * 100 + "\n[5 bytes of the log are left out here]\n" + "fghijabcde" * 100),
    ],
)
def test_what_is_shown_is_bounded(tmp_path: Path, size: int, expected: str) -> None:
    child = start(tmp_path, lambda: write(("abcdefghij" * 300)[:size]))
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "out").read_text() == expected and (tmp_path / "err").read_text() == ""


def test_no_log(tmp_path: Path) -> None:
    assert os.waitpid(start(tmp_path, lambda: None), 0)[1] == 0
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_seen_before_the_end(tmp_path: Path, number: int) -> None:
    def body() -> None:
        write("first\n")
        until(lambda: (tmp_path / "go").exists())
        write("second\n")
        time.sleep(100)

    child = start(tmp_path, body)
    until(lambda: (tmp_path / "out").read_text() == "first\n")
    (tmp_path / "go").touch()
    until(lambda: (tmp_path / "out").read_text() == "first\nsecond\n")
    os.kill(child, number)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == number
    # Who reads its output waits for the pipe's end: nobody keeps it open.
    until(lambda: not showing(tmp_path))


def showing(here: Path) -> bool:
    """Whether a process has here/out open."""
    for directory in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if os.readlink(directory) == os.fspath(here / "out"):
                return True
        except OSError:
            pass
    return False


def test_nobody_reads(tmp_path: Path) -> None:
    """The caller goes on."""

    def main() -> int:
        read, written = os.pipe()
        os.close(read)
        os.dup2(written, 1)
        with shown("log", 1000):
            write("x" * 5000)
            time.sleep(0.5)
        return 7

    null = os.open("/dev/null", os.O_RDWR)
    assert os.waitstatus_to_exitcode(os.waitpid(start_child(main, tmp_path, [null, null, null]), 0)[1]) == 7
    os.close(null)
