"""What callers have done to signals and standard streams does not reach the tool's own children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.unit.conftest import REPOSITORY

IGNORED = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGTSTP]


def ignore() -> None:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)


def python(code: str, before: Callable[[], Any], **kwargs: Any) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, env=env, preexec_fn=before, text=True, check=False, **kwargs)


STATE = "import subprocess; print(subprocess.run(['grep', '-E', '^Sig(Blk|Ign)', '/proc/self/status']).returncode)"
FAILING = "import subprocess; print(subprocess.run(['false']).returncode)"


def test_signals_are_what_they_usually_are() -> None:
    """In the programs that are started: nothing is ignored or blocked."""
    plain = python(STATE, lambda: None, stdout=subprocess.PIPE).stdout
    inherited = python(STATE, ignore, stdout=subprocess.PIPE).stdout
    settled = python(f"from opam_sandbox import inherited; inherited.settle(); {STATE}", ignore, stdout=subprocess.PIPE)
    assert settled.stdout == plain != inherited


@pytest.mark.parametrize("settle", ["settle", "settle_less"])
def test_a_failure_is_heard_of(settle: str) -> None:
    """Where SIGCHLD is ignored, Python takes every end for a success."""
    assert python(FAILING, ignore, stdout=subprocess.PIPE).stdout == "0\n"
    code = f"from opam_sandbox import inherited; inherited.{settle}(); {FAILING}"
    assert python(code, ignore, stdout=subprocess.PIPE).stdout == "1\n"


def test_hang_up_is_ignored_where_a_person_says_so() -> None:
    code = "from opam_sandbox import inherited; import signal; inherited.settle_less(); print(signal.getsignal(1) == 1)"
    assert python(code, ignore, stdout=subprocess.PIPE).stdout == "True\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams(tmp_path: Path, closed: "tuple[int, ...]") -> None:
    """What is opened later is not taken for one of them, by this process or by what it starts."""

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    code = (
        "import os, subprocess, sys; from opam_sandbox import inherited; inherited.settle()\n"
        "file = open('made', 'w'); print('lost'); sys.stdout.flush(); sys.stderr.write('lost'); sys.stderr.flush()\n"
        "subprocess.run(['sh', '-c', 'echo lost; echo lost >&2'])\n"
        "file.write(str(file.fileno() > 2)); file.close()"
    )
    assert python(code, close, cwd=tmp_path, stdout=subprocess.DEVNULL).returncode == 0
    assert (tmp_path / "made").read_text() == "True"


ISOLATED = """
import os, sys, time
from opam_sandbox.sandbox.namespaces import run_isolated
def inside():
    os.write(1, b"x")
    time.sleep(60)
    return 0
{caller}
"""


def test_it_ends_with_its_caller(root_user: None) -> None:
    """A Pants that is killed can end nobody."""
    caller = "os.fork() and time.sleep(60) or sys.exit(run_isolated(inside))"
    argv = [sys.executable, "-c", ISOLATED.format(caller=caller)]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(1) == b"x"
        process.kill()
        start = time.monotonic()
        assert process.stdout.read() == b""  # nobody holds the other end any more
        assert time.monotonic() - start < 30


def test_a_sandbox_that_is_killed_says_so(root_user: None) -> None:
    argv = [sys.executable, "-c", ISOLATED.format(caller="sys.exit(run_isolated(inside))")]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.read(1) == "x"
        [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == 137 and "killed by signal 9" in said and "Traceback" not in said


def test_a_caller_that_has_left_many_files_open(root_user: None) -> None:
    """As Pants may have: select(2) takes none of a higher number."""
    code = (
        "import os, resource; from opam_sandbox.sandbox.namespaces import run_isolated\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1200, max(1200, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))\n"
        "kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(1100)]\n"
        "print(run_isolated(lambda: 7))"
    )
    assert python(code, lambda: None, stdout=subprocess.PIPE).stdout == "7\n"
