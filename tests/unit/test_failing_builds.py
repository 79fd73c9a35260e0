"""build: one that fails while processes of its live on ends as one that fails, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Tuple

import pytest

from opam_sandbox import machine_errors
from opam_sandbox.building import build
from opam_sandbox.opam.switch import SWITCH_STATE_DIR
from opam_sandbox.sandbox import control_group, limits, memory
from tests.support import disks
from tests.unit.conftest import Namespaces, build_request, make_base_layer, make_opam_root, memory_bound

# A daemon that nothing but SIGKILL ends, and that makes files as fast as it can.
DAEMON = """
setsid sh -c 'trap "" HUP INT TERM; cd {directory}; i=0; while :; do i=$((i+1)); : > f$i; done' &
while [ ! -e {directory}/f20 ]; do :; done
"""
HOME = "/home/opam"
BUILD = f"/{SWITCH_STATE_DIR}/build"


def run(tmp_path: Path, tiny_root: Path, opam: str) -> Tuple[int, str]:
    """Build a package with this script as opam, in the current directory; the exit status and the log."""
    base = make_base_layer(tmp_path / "base", tiny_root, {"opam": "#!/bin/sh\n" + opam})
    layers = [base, make_opam_root(tmp_path / "opam-root")]
    status = build.run(build_request(tmp_path / "store", layers), 1)
    return status, Path("build.log").read_text()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespaces: Namespaces) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def left(here: Path, tmp_path: Path) -> "set[str]":
    kind = tmp_path / "store/v4/root"
    return set(os.listdir(here)) | set(os.listdir(kind / "tmp")) | set(os.listdir(kind / "scratch"))


@pytest.mark.parametrize("room", [0, 1 << 26], ids=["disk", "memory"])
def test_the_error_is_the_packages(
    tmp_path: Path, here: Path, tiny_root: Path, room: int, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(memory, "room_for_one", lambda claimed=0: room)
    opam = DAEMON.format(directory=HOME) + DAEMON.format(directory=BUILD if room else HOME) + "echo broken; exit 3\n"
    status, log = run(tmp_path, tiny_root, opam)
    assert (status, log) == (1, "broken\n")
    assert capfd.readouterr().err == (
        "error: opam package t.1 failed to build (opam's exit status 3); what it printed is in build.log\n"
    )
    assert left(here, tmp_path) == {"build.log", "timings.json", "failure.json"}
    told = json.loads((here / "failure.json").read_text())
    assert (told["kind"], told["limit"], told["package"]) == ("build", "", "t.1")
    [record] = (tmp_path / "store/failed/t.1").iterdir()
    assert (record / "build.log").read_text() == log and json.loads((record / "failure.json").read_text()) == told


@pytest.mark.parametrize("place", [BUILD, "/tmp", "/dev/shm"])
def test_it_is_tried_again_on_disk(
    tmp_path: Path, here: Path, tiny_root: Path, place: str, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Where memory is full, and what fills it is still at it."""
    monkeypatch.setattr(memory, "room_for_one", lambda claimed=0: 1 << 20)
    full = f"{DAEMON.format(directory=HOME)} while cat /bin/cat >> {place}/large; do :; done; exit 5"
    opam = f'if [ -d {BUILD} ] && [ "$(stat -f -c %T {BUILD})" = tmpfs ]; then {full}; fi\necho on disk; exit 0\n'
    status, log = run(tmp_path, tiny_root, opam)
    assert (status, log) == (0, "on disk\n"), capfd.readouterr().err
    assert json.loads((here / "layer.json").read_text())["name"] == "t"
    assert left(here, tmp_path) == {"build.log", "timings.json", "layer.json", "blobs"}


# The kernel ends the shell that takes all memory.
HUNGRY = "(x=hungry; while :; do x=$x$x; done); echo went on"


@pytest.mark.parametrize("on_disk", ["echo on disk", HUNGRY], ids=["enough", "too little"])
def test_it_is_tried_again_on_disk_when_the_kernel_has_ended_a_part_of_it(
    tmp_path: Path, here: Path, tiny_root: Path, on_disk: str, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Where files in memory leave too little to programs. The build itself went on, and said that all was well."""
    group = control_group.make()
    if group is None or not group.counts_memory():
        pytest.skip("no control group for memory")
    group.remove()
    bound = memory_bound()
    monkeypatch.setattr(limits, "memory", lambda: bound)
    monkeypatch.setattr(memory, "room_for_one", lambda claimed=0: 1 << 30)
    opam = f"if [ -d {BUILD} ]; then {HUNGRY}; else {on_disk}; fi; exit 0\n"
    status, log = run(tmp_path, tiny_root, opam)
    error = capfd.readouterr().err
    if on_disk == HUNGRY:
        assert status == 1 and "went on" in log and not (here / "layer.json").exists()
        assert error == (
            "error: `opam install` did not get what it needs of this machine: memory was short, and the kernel ended some of it. "
            "Give the machine or its control group more memory, or run fewer builds at once (Pants' "
            "[GLOBAL].process_execution_local_parallelism)\n"
        )
    else:
        assert (status, log) == (0, "on disk\n"), error
    assert not list((tmp_path / "store/v4/root/memory").iterdir())


@pytest.mark.parametrize("room", [0, 1 << 26], ids=["short", "enough"])
def test_a_sandbox_in_memory_gives_the_same_layer(
    tmp_path: Path, here: Path, tiny_root: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory is short, what the build writes is not in it: it would not fit."""
    if machine_errors.is_in_memory(tmp_path):
        pytest.skip("temporary files lie in memory")
    monkeypatch.setattr(memory, "room_for_one", lambda claimed=0: room)
    large = "i=0; while [ $i -lt 300 ]; do cat /bin/cat /bin/cat >> /tmp/x || exit 9; i=$((i+1)); done"
    opam = f"{large}; cat /bin/cat > /home/opam/x; exit 0\n"
    assert run(tmp_path, tiny_root, opam) == (0, "")
    on_disk = json.loads((here / "layer.json").read_text())
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(tmp_path / "base")
    shutil.rmtree(tmp_path / "opam-root")
    (here / "in-memory").mkdir()

    def build_in_memory() -> "Tuple[int, Any]":
        with disks.memory(here / "in-memory", (16 << 20) if not room else (64 << 20)):
            os.chdir(here / "in-memory")
            status, _ = run(tmp_path, tiny_root, opam)
            text = Path("layer.json").read_text() if status == 0 else "{}"
            os.chdir(here)
        return status, json.loads(text)

    assert disks.apart(build_in_memory) == (0, on_disk)
    assert left(here, tmp_path) == {"build.log", "timings.json", "layer.json", "blobs", "in-memory"}


def test_what_is_left_running_ends_with_a_build_that_succeeds(tmp_path: Path, here: Path, tiny_root: Path) -> None:
    status, _ = run(tmp_path, tiny_root, DAEMON.format(directory=HOME) + "exit 0\n")
    assert status == 0
    assert left(here, tmp_path) == {"build.log", "timings.json", "layer.json", "blobs"}
