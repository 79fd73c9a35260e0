"""host_view: a host's program works on what it is given, and reaches nothing else of the machine."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Callable, Tuple

import pytest

from opam_sandbox.building import host_view
from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import control_group, limits, syscalls
from tests.support import probes
from tests.support.probes.caller import unconfined

Run = Callable[..., Tuple[int, str]]
# What of a target's changes says only that the probes reached the target.
REACHED = ("signals of the caller's process", "a connection to ")
ENV = {"PATH": host_view.PATH, "LC_ALL": "C"}


@pytest.fixture
def run(tmp_path: Path, root_user: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command: (exit status, standard output). `inputs` has the probe."""
    if shutil.which("perl", path=host_view.PATH) is None:
        pytest.skip("the probe is in Perl")
    monkeypatch.chdir(tmp_path)
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    probes.copy_probes(inputs)

    def call(*argv: str, room: int = 0) -> Tuple[int, str]:
        (tmp_path / "view").mkdir(exist_ok=True)
        with open("out", "wb") as out, open("log", "wb") as log:
            status = host_view.run(host_view.Job(argv, ENV, inputs, tmp_path / "view", room, out, log))
        return status, Path("out").read_text() + Path("log").read_text()

    return call


@pytest.mark.parametrize("foreign", [True, False])
def test_nothing_of_the_machine_is_reached(
    run: Run, tmp_path: Path, foreign: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a user namespace, and for root where the kernel gives none."""
    if not foreign:
        refuse_user_namespaces(monkeypatch)
    (tmp_path / "target").mkdir()
    with probes.target(tmp_path / "target") as target:
        arguments = ["mounts=yes"] if foreign else []
        status, text = run("perl", "/inputs/probe.pl", *target.arguments, *arguments)
        outcomes = probes.read_outcomes(text)
        assert status == 0, text
        assert not probes.reached(outcomes), "\n".join(probes.reached(outcomes))
        assert len([outcome for outcome in outcomes.values() if outcome.outcome != "absent"]) >= 400
        assert target.changes() == []
    assert os.listdir(tmp_path / "view/scratch") == []


def test_the_probes_reach_what_is_not_confined(tmp_path: Path, root_user: None) -> None:
    """Else the test above says nothing. They leave the machine as it was."""
    with probes.target(tmp_path) as target:
        outcomes = probes.read_outcomes(unconfined(target))
        changes = target.changes()
    assert len(probes.reached(outcomes)) >= 300
    # What they reached is the target's; the machine's parameters, names and directories are what they were.
    assert [change for change in changes if not change.startswith((str(tmp_path), *REACHED))] == []


def test_memory_that_ran_out_is_an_error(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though what the program started went on without what the kernel ended."""
    monkeypatch.setattr(limits, "memory", lambda: 512 << 20)
    around = control_group.make()
    if around is None or not around.counts_memory():
        pytest.skip("no control group for memory")
    error = tmp_path / "error"
    child = os.fork()
    if child == 0:
        try:
            around.enter()
            assert run("sh", "-c", "exit 0") == (0, "")
            run("sh", "-c", "perl -e 'my $x = q(x) x (900 << 20); print length $x' || true; echo went on")
        except ToolError as found:
            error.write_text(str(found))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    around.remove()
    assert Path("out").read_text() == "went on\n"
    assert error.read_text().startswith("`sh` did not get what it needs of this machine: memory was short")


def refuse_user_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    unshare = syscalls.unshare

    def refuse(flags: int) -> None:
        if flags & syscalls.CLONE_NEWUSER:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        unshare(flags)

    monkeypatch.setattr(syscalls, "unshare", refuse)
