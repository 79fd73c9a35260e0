"""build: what passes a limit ends as a failure that names it, as root and as a user, with control groups and without."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import filelock as filelock  # by now: the user of these tests cannot read this Python's files
import pytest

from opam_sandbox.building import asked, build, failures
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox import control_group, memory, syscalls, watch
from tests.unit.conftest import (
    REPOSITORY,
    add_programs,
    build_request,
    directory_for_all,
    make_base_layer,
    make_opam_root,
    need_namespaces,
)  # fmt: skip

USER = 47010
KINDS = ["root", "root-without-groups", "user"]

# Ignores what can be ignored, in a session of its own, twice forked; and the build waits for it.
SLEEPER = (
    'setsid sh -c \'trap "" HUP INT TERM; (trap "" TERM; sleep 4711) & sleep 4712\' & trap "" TERM; wait; exit 0\n'
)
BOMB = "perl -e 'while (1) { my $p = fork; if (defined $p && !$p) { sleep 60; exit } select undef, undef, undef, 0.001 }'\n"
# A megabyte at a time, so that it is seen on the way.
HOG = "perl -e 'my @x; for (1 .. 900) { push @x, q(x) x (1 << 20); select undef, undef, undef, 0.005 } sleep 60'\n"
FILLER = """perl -e '
    open F, q(>), q({place}) or die;
    for (1 .. 900) {{ print F q(x) x (1 << 20); select undef, undef, undef, 0.002 }}
    close F; sleep 60'
"""


@pytest.fixture(scope="module")
def top(root_user: None) -> Iterator[Path]:
    """A directory that every user reaches."""
    need_namespaces()
    with directory_for_all("limits-") as directory:
        yield directory


@pytest.fixture(scope="module")
def layers(top: Path, tiny_root: Path) -> List[Layer]:
    """A base whose opam is a script among the package's files."""
    copy = top / "root"
    shutil.copytree(tiny_root, copy, symlinks=True)
    add_programs(copy, ["perl"])
    script = "exec sh /home/opam/.opam/repo/default/packages/t/t.1/files/script"
    base = make_base_layer(top / "base", copy, {"opam": f"#!/bin/sh\n{script}\n"})
    return [base, make_opam_root(top / "opam-root")]


class Place:
    """Builds packages whose opam is a shell script, in a directory of root's or of a user's."""

    def __init__(self, top: Path, layers: List[Layer], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._layers, self._user = layers, kind == "user"
        self.here = top / f"{kind}-{os.urandom(4).hex()}"
        self.here.mkdir()
        # One for all tests: what is unpacked there stays.
        self.store = top / ("user" if self._user else "root-store")
        for path in (self.store, self.store / "asked"):
            path.mkdir(mode=0o700, exist_ok=True)
        self.ask()
        if kind == "root-without-groups":
            monkeypatch.setattr(control_group, "make", lambda **bounds: None)
        self.room = 0
        monkeypatch.setattr(memory, "room_for_one", lambda claimed=0: self.room)

    def ask(self, **values: Any) -> None:
        (self.store / "asked/default").write_text(json.dumps(values))

    def request(self, script: str) -> Any:
        request = build_request(self.store, self._layers)
        request["package"]["files"] = [{"path": "script", "content": base64.b64encode(script.encode()).decode()}]
        return request

    def apart(self, work: Callable[[], int], error: Path) -> int:
        """The exit status of `work`, in a process that may be a user's."""
        child = os.fork()
        if child == 0:
            status = 99
            try:
                os.chdir(self.here)
                if self._user:
                    for path in (self.here, *self.here.rglob("*"), self.store, *self.store.glob("asked/**")):
                        os.chown(path, USER, USER, follow_symlinks=False)
                    os.chown(self.store / "asked/default", USER, USER)
                    os.setgroups([])
                    os.setresgid(USER, USER, USER)
                    os.setresuid(USER, USER, USER)
                    syscalls.hide_from_others(False)
                with open(error, "w") as sys.stderr:
                    status = work()
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def run(self, script: str) -> Tuple[int, str]:
        """The exit status of a build, and what it says."""
        request = self.request(script)
        (self.here / "error").touch()
        for name in ("layer.json", "build.log"):
            (self.here / name).unlink(missing_ok=True)
        status = self.apart(lambda: build.run(request, 1), self.here / "error")
        return status, (self.here / "error").read_text()

    @property
    def told(self) -> Dict[str, Any]:
        data: Dict[str, Any] = json.loads((self.here / "failure.json").read_text())
        return data

    def check_nothing_is_left(self) -> None:
        kind = self.store / "v3" / ("user" if self._user else "root")
        left = [name for name in ("scratch", "first") if (self.here / name).exists()]
        left += [path.name for name in ("tmp", "scratch") for path in (kind / name).glob("*")]
        assert left == []
        assert running("4711", "4712") == []
        for path in Path("/proc").glob("[0-9]*/mountinfo"):
            try:
                assert str(self.here / "scratch") not in path.read_text(), path
            except OSError:
                pass


def running(*marks: str) -> List[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found += [f"{path.parent.name} {words}" for mark in marks if mark in words]
    return found


@pytest.fixture(params=KINDS)
def place(request: Any, top: Path, layers: List[Layer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(top, layers, request.param, monkeypatch)
    yield made
    shutil.rmtree(made.here)


def passes(place: Place, limit: str, script: str, value: float, what: str, room: int = 0) -> None:
    """A build with this script passes the limit; without the limit, another one of the same is built."""
    place.room = room
    place.ask(**{limit: value})
    status, error = place.run("echo begun\n" + script)
    assert status == 1 and what in error, error
    assert error.startswith("error: opam package t.1 was ended: it ")
    assert f"`{limit}` in " in error and error.count("\n") == 1
    told = place.told
    assert (told["kind"], told["limit"], told["value"]) == ("limit", limit, value)
    log = (place.here / "build.log").read_text()
    assert log.startswith("begun\n") and what in log
    assert not (place.here / "layer.json").exists()
    place.check_nothing_is_left()


def test_time(place: Place) -> None:
    passes(place, "time", SLEEPER, 2.5, "it took longer than 2.5 seconds")
    assert any("sleep 471" in line for line in place.told["running"])
    assert "it ran: " in (place.here / "build.log").read_text()
    place.ask(time=60)
    assert place.run("sleep 1; exit 0\n")[0] == 0


def test_processes(place: Place) -> None:
    passes(place, "processes", BOMB, 60, "it had more than 60 processes and threads")
    assert any("perl" in line for line in place.told["running"])


@pytest.mark.parametrize("room", [0, 1 << 30], ids=["disk", "memory"])
def test_memory(place: Place, room: int) -> None:
    passes(place, "memory", HOG, 200 << 20, "it took more than 200 MiB of memory", room)


@pytest.mark.parametrize("room, directory", [(0, "/tmp"), (1 << 30, "/tmp"), (1 << 30, "/home/opam")])
def test_disk(place: Place, room: int, directory: str) -> None:
    passes(place, "disk", FILLER.format(place=f"{directory}/f"), 100 << 20, "it wrote more than 100 MiB of files", room)


def test_a_build_that_ends_at_once_has_passed_a_limit_as_well(place: Place) -> None:
    place.ask(disk=1 << 20)
    script = "perl -e 'open F, q(>), q(/home/opam/f); print F q(x) x (3 << 20); close F'; exit 0\n"
    status, error = place.run(script)
    assert status == 1 and "more than 1 MiB of files" in error
    place.ask(disk=8 << 20)
    assert place.run(script)[0] == 0 and (place.here / "layer.json").exists()


def test_a_build_sees_nothing_of_its_limits(place: Place) -> None:
    """And its layer is the same."""
    script = "{ ulimit -a; ulimit -Ha; cat /proc/self/limits /proc/self/cgroup; } > /home/opam/limits; exit 0\n"
    seen = []
    for asks in ({}, {"time": 99, "memory": 300 << 20, "processes": 99, "disk": 300 << 20}):
        place.ask(**asks)
        assert place.run(script)[0] == 0
        seen.append((place.here / "layer.json").read_text())
    assert seen[0] == seen[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_everything(
    top: Path, layers: List[Layer], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    place = Place(top, layers, "root", monkeypatch)
    place.here.joinpath("request.json").write_text(json.dumps(place.request(SLEEPER)))
    command = [sys.executable, "-m", "opam_sandbox.building", "build", "request.json"]
    environment = {**os.environ, "PYTHONPATH": os.fspath(REPOSITORY / "src")}
    with open(place.here / "error", "w") as error:
        process = subprocess.Popen(command, cwd=place.here, env=environment, stderr=error)
    try:
        _wait_for(lambda: len(running("4711", "4712")) == 2, 120)
        process.send_signal(number)
        process.wait(60)
        _wait_for(lambda: not running("4711", "4712"), 60)
    finally:
        process.kill()
    if number != signal.SIGKILL:
        assert process.returncode == 1
        assert (place.here / "error").read_text() == f"error: this process was ended by {number.name}\n"
        place.check_nothing_is_left()
        assert place.told["kind"] == "other"
    shutil.rmtree(place.here)


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def _started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.mark.parametrize("started, bound", [(0, 7), (1, 0)])
def test_what_pants_asks_is_found_by_its_process(tmp_path: Path, started: int, bound: float) -> None:
    """Not what another process asked that had its number before."""
    (tmp_path / "asked").mkdir()
    pid = os.getpid()
    (tmp_path / "asked" / str(pid)).write_text(json.dumps({"time": 7, "started": _started(pid) + started}))
    code = (
        "import pathlib, sys; from opam_sandbox.building import asked; "
        "found = asked.watch(pathlib.Path(sys.argv[1])); print(found.bounds.seconds if found else 0)"
    )
    # A process between.
    command = ["sh", "-c", f'"{sys.executable}" -c "$0" "$1"; exit $?', code, os.fspath(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.fspath(REPOSITORY / "src")}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    assert float(done.stdout) == bound


@pytest.mark.parametrize("content", ["{", "[]", '{"time": "x"}', '{"memory": -1}', '{"disk": true}', '{"time": 1e999}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked/default").write_text(content)
    with pytest.raises(ToolError, match="asked/default.*[dD]elete the file"):
        asked.watch(tmp_path)


def test_no_file_bounds_nothing(tmp_path: Path) -> None:
    assert asked.watch(tmp_path) is None
    (tmp_path / "asked").mkdir()
    assert asked.watch(tmp_path) is None


def test_the_last_failures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store, count = tmp_path / "store", 0

    def fail(told: failures.Told) -> int:
        Path("build.log").write_text(f"log {count}\n")
        return 3

    for count in range(5):  # noqa: B007 (what `fail` logs)
        assert failures.recorded(store, "a.1", fail) == 3
        time.sleep(0.01)
    records = sorted((store / "failed/a.1").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(records) == 3
    told = json.loads((records[-1] / "failure.json").read_text())
    assert told["message"] == "a process of the build ended with status 3"
    old = time.time() - 15 * 86400
    os.utime(records[0], (old, old))
    failures.prune(store / "failed")
    assert not records[0].exists() and records[2].exists()


def test_what_a_directory_takes(tmp_path: Path, root_user: None) -> None:
    """Each file once, also below directories that keep others out; nothing that a link leads to."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/f").write_bytes(os.urandom(1 << 20))
    os.link(tmp_path / "a/b/f", tmp_path / "a/g")
    (tmp_path / "a/b").chmod(0)
    os.symlink("/usr", tmp_path / "a/usr")
    os.symlink("a", tmp_path / "again")
    assert 1 << 20 <= watch._size(tmp_path) < (1 << 20) + (64 << 10)
    assert watch._size(tmp_path / "again") == 0 and watch._size(tmp_path / "none") == 0


def test_groups_have_the_tighter_bound(root_user: None) -> None:
    group: Optional[control_group.ControlGroup] = control_group.make(memory=64 << 20, processes=10)
    if group is None:
        pytest.skip("no control groups")
    try:
        found = {
            name: (directory / name).read_text().strip()
            for directory in group._directories.values()
            for name in ("pids.max", "memory.max", "memory.limit_in_bytes")
            if (directory / name).exists()
        }
    finally:
        group.remove()
    assert found.pop("pids.max", "11") == "11"
    assert set(found.values()) <= {str(64 << 20)}


@pytest.mark.parametrize("part, command", [("building", "build"), ("locking", "lock-opam"), ("imaging", "state")])
def test_what_is_only_looked_for_is_not_made(tmp_path: Path, part: str, command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.fspath(REPOSITORY / "src"), "OPAM_OCI_ONLY_LOOK": "1"}
    argv = [sys.executable, "-m", f"opam_sandbox.{part}", command, "no-such-request.json"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (75, b"", b"")
