"""shell: a person's command where opam would run a package's own, as root and as a user, with a terminal and without."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import termios as termios  # by now: the user of these tests cannot read this Python's files
import time
import tty as tty
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import filelock as filelock
import pytest

from opam_sandbox.building import shell
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox import memory
from tests.support.child import start_child
from tests.unit.conftest import (
    add_programs,
    build_request,
    directory_for_all,
    make_base_layer,
    make_layer,
    make_tar,
    member,
    need_namespaces,
)  # fmt: skip

USER = 47010
BUILD = "/home/opam/.opam/default/.opam-switch/build/t.1"
# As opam does it, by what its configuration says: the wrapper before each command, the hook before it installs.
OPAM = f"""#!/bin/sh
[ "$1" = install ] || exit 9
mkdir -p {BUILD}; cd {BUILD}; echo source > file
[ ! -e /home/opam/.opam/repo/default/packages/t/t.1/files/broken ] || {{ echo no source; exit 4; }}
unset OPAMCONFIRMLEVEL
export OPAM_PACKAGE_NAME=t QUOTED="it's
two lines" TERM=dumb
mode=$(sed -n 's/^wrap-build-commands:.*hook" "\\([a-z]*\\)".*/\\1/p' /home/opam/.opam/config)
echo building
sh /dev/opam-shell-hook $mode sh -c 'echo object > object; exit 3' || exit 31
sh /dev/opam-shell-hook $mode make "it's all" || exit 31
! grep -q pre-install /home/opam/.opam/config || sh /dev/opam-shell-hook stop || exit 31
"""


@pytest.fixture(scope="module")
def top(root_user: None) -> Iterator[Path]:
    """A directory that every user reaches."""
    need_namespaces()
    with directory_for_all("shell-") as directory:
        yield directory


@pytest.fixture(scope="module")
def layers(top: Path, tiny_root: Path) -> List[Layer]:
    copy = top / "root"
    shutil.copytree(tiny_root, copy, symlinks=True)
    add_programs(copy, ["sed", "mkdir", "grep", "tty"])
    opam = {"uid": 1000, "gid": 1000}
    home = [
        member("home", b"5"),
        member("home/opam", b"5", **opam),
        member("home/opam/.opam", b"5", **opam),
        member("home/opam/.opam/config", content=b'opam-version: "2.0"\n', **opam),
    ]
    return [
        make_base_layer(top / "base", copy, {"opam": OPAM}),
        make_layer(top / "opam", make_tar(home), "opam-root", ""),
    ]


@pytest.fixture(params=["root", "user"])
def here(request: Any, top: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(memory, "room_for_one", lambda claimed=0: 1 << 26)
    path = top / f"{request.param}-{os.urandom(4).hex()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def start(here: Path, layers: List[Layer], command: List[str], streams: Tuple[int, int, int], **fields: Any) -> int:
    """The process that runs the command, with these standard streams."""
    is_user = here.name.startswith("user")
    store = here.parent / ("store-user" if is_user else "store-root")
    store.mkdir(mode=0o700, exist_ok=True)
    request = {**build_request(store, layers), "command": command, **fields}
    if request.pop("broken", False):
        request["package"]["files"] = [{"path": "broken", "content": ""}]
    if is_user:
        for path in (here, store):
            os.chown(path, USER, USER)
    return start_child(lambda: shell.run(request, 1), here, streams, USER if is_user else None)


def run(here: Path, layers: List[Layer], *command: str, given: bytes = b"", **fields: Any) -> Tuple[int, str, str]:
    """Exit status, standard output and errors."""
    files = []
    for name in ("in", "out", "err"):
        (here / name).write_bytes(given if name == "in" else b"")
        files.append(os.open(here / name, os.O_RDWR))
    status = os.waitpid(start(here, layers, list(command), (files[0], files[1], files[2]), **fields), 0)[1]
    for descriptor in files:
        os.close(descriptor)
    check_nothing_is_left(here)
    return os.waitstatus_to_exitcode(status), (here / "out").read_text(), (here / "err").read_text()


def check_nothing_is_left(here: Path) -> None:
    assert not (here / "scratch").exists()
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            assert str(here / "scratch") not in path.read_text(), path
        except OSError:
            pass


def test_a_command(here: Path, layers: List[Layer]) -> None:
    """Directory, user, variables, input, both outputs, and the exit status are the command's."""
    script = (
        'pwd; id -u; cat file; echo "$OPAM_PACKAGE_NAME $QUOTED $TERM $OPAMKEEPBUILDDIR"; cat; echo bad >&2; ls; exit 7'
    )
    status, out, err = run(here, layers, "sh", "-c", script, given=b"given\n")
    assert out == f"{BUILD}\n1000\nsource\nt it's\ntwo lines dumb \ngiven\nfile\n"
    assert (status, err) == (7, "bad\n")


def test_the_variables_are_the_commands_and_no_others(here: Path, layers: List[Layer]) -> None:
    """What opam was given, and did not pass on, is not there."""
    status, out, _ = run(here, layers, "sh", "-c", "export -p")
    names = {line.split()[1].partition("=")[0] for line in out.splitlines() if line.startswith("export ")}
    assert status == 0 and {"OPAM_PACKAGE_NAME", "QUOTED", "PATH", "HOME"} <= names
    assert not {"OPAMCONFIRMLEVEL", "OPAM_SHELL_TERM", "OPAMKEEPBUILDDIR"} & names


def test_what_is_written_is_gone(here: Path, layers: List[Layer]) -> None:
    assert run(here, layers, "sh", "-c", "echo x > /home/opam/new; echo y > /tmp/new; rm file")[0] == 0
    assert run(here, layers, "sh", "-c", "ls -a /home/opam /tmp; cat file")[1].split() == (
        "/home/opam: . .. .opam /tmp: . .. .opam-shell source".split()
    )


def test_a_shell_says_what_can_be_typed(here: Path, layers: List[Layer]) -> None:
    status, out, err = run(here, layers, given=b"ls\nexit 5\n")
    assert (status, out) == (5, "file\n")
    assert "\n  sh -c 'echo object > object; exit 3'\n  make 'it'\\''s all'\n" in err
    assert "Nothing of it has run yet." in err and "What is written here is gone at the end." in err


def test_after_the_build(here: Path, layers: List[Layer]) -> None:
    """What a failed build left, and the end of its log."""
    status, out, err = run(here, layers, "sh", "-c", "cat object", after_build=True)
    assert (status, out) == (0, "object\n")
    assert "building\n" in err and "t.1 has failed to build (opam's exit status 31)" in err


def test_opams_configuration_is_as_it_was(here: Path, layers: List[Layer]) -> None:
    assert run(here, layers, "cat", "/home/opam/.opam/config")[1] == 'opam-version: "2.0"\n'


def test_where_opam_comes_to_no_command(here: Path, layers: List[Layer]) -> None:
    status, out, err = run(here, layers, "true", broken=True)
    assert (status, out) == (1, "")
    assert err == (
        "error: opam has not come to the commands of t.1 (opam's exit status 4). The end of its log:\nno source\n"
    )


def test_keep(here: Path, layers: List[Layer]) -> None:
    kept = here / "kept"
    os.chmod(here, 0o777)
    kept.mkdir()
    if here.name.startswith("user"):
        os.chown(kept, USER, USER)
    assert run(here, layers, "sh", "-c", "echo mine > mine", keep=str(kept))[0] == 0
    assert (kept / "t.1/mine").read_text() == "mine\n" and (kept / "t.1/file").read_text() == "source\n"
    status, _, err = run(here, layers, "true", keep=str(kept))
    assert status == 1 and err == f"error: {kept} is to keep what is in the build's directory, but is not empty\n"


@pytest.mark.parametrize("network", [False, True])
def test_network(here: Path, layers: List[Layer], network: bool) -> None:
    script = "cat /proc/net/dev; cat /etc/resolv.conf 2> /dev/null"
    seen = run(here, layers, "sh", "-c", script, network=network)[1]
    assert len(Path("/proc/net/dev").read_text().splitlines()) > 3, "this machine has no network"
    names = [line.split(":")[0].strip() for line in seen.splitlines()[2:] if ":" in line]
    assert names == ["lo"] if not network else len(names) > 1
    if network and os.path.exists("/etc/resolv.conf"):
        assert seen.endswith(Path("/etc/resolv.conf").read_text())


class Terminal:
    """A command on a terminal of this test's."""

    def __init__(self, here: Path, layers: List[Layer], *command: str) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.child = start(here, layers, list(command), (slave, slave, slave))
        self.slave = slave
        self.seen = ""

    def expect(self, text: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < until, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        status = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        after = termios.tcgetattr(self.slave)
        assert after == self.before, "the terminal is as it was"
        os.close(self.master)
        os.close(self.slave)
        return status


def test_on_a_terminal(here: Path, layers: List[Layer]) -> None:
    """A shell has jobs, keys send signals, and the size is the terminal's."""
    terminal = Terminal(here, layers)
    terminal.expect("What is written here is gone at the end.")
    terminal.type("[ -t 0 ] && [ -t 1 ] && echo is-a-$((40+2))-terminal\r")
    terminal.expect("is-a-42-terminal")
    terminal.type('(echo star""ted; exec sleep 99)\r')
    terminal.expect("started")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.type("echo still-$((40+3))-here\r")
    terminal.expect("still-43-here")
    terminal.type("cat < /dev/tty > /dev/null; echo ended-$((40+4))\r")
    time.sleep(0.3)
    terminal.type("\x04")
    terminal.expect("ended-44")
    terminal.type("exit 6\r")
    assert terminal.end() == 6
    check_nothing_is_left(here)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(here: Path, layers: List[Layer], number: signal.Signals) -> None:
    (here / "out").touch()
    null, out = os.open("/dev/null", os.O_RDWR), os.open(here / "out", os.O_RDWR)
    child = start(here, layers, ["sh", "-c", "echo begun; setsid sleep 4713 & sleep 4713"], (null, out, null))
    until = time.monotonic() + 60
    while (here / "out").read_text() != "begun\n":
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + number
    until = time.monotonic() + 60
    while any(b"4713" in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")):
        assert time.monotonic() < until
        time.sleep(0.05)
    for descriptor in (null, out):
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_much_goes_both_ways(here: Path, layers: List[Layer]) -> None:
    given = b"".join(b"%d\n" % number for number in range(400_000))
    status, out, _ = run(here, layers, "cat", given=given)
    assert status == 0 and out.encode() == given


def test_input_that_nobody_reads(here: Path, layers: List[Layer]) -> None:
    status, out, _ = run(here, layers, "sh", "-c", "echo out; exit 2", given=b"x" * (1 << 20))
    assert (status, out) == (2, "out\n")
