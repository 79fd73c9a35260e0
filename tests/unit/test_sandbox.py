"""isolation and overlay: what runs inside sees nothing of the host, may do little, and dies with its maker."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, List, Tuple

import pytest

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.sandbox import privileges
from opam_sandbox.sandbox.namespaces import run_isolated
from opam_sandbox.sandbox.overlay import MAX_LOWER, Overlay
from tests.unit.conftest import REPOSITORY, Namespaces

ENV = {"PATH": "/bin"}


@pytest.fixture
def inside(namespaces: Namespaces, tiny_root: Path, tmp_path: Path) -> "Callable[[str, bool], Tuple[int, str]]":
    """Runs a shell script over the tiny root; its exit status and output."""

    def run(script: str, user: bool) -> Tuple[int, str]:
        def work() -> Tuple[int, str]:
            overlay = Overlay([tiny_root], tmp_path / "scratch", rootless=False)
            overlay.mount()
            with open(tmp_path / "log", "wb") as log:
                done = overlay.run(["sh", "-c", script], ENV, log, user=user, cwd="/tmp")
            overlay.unmount()
            overlay.remove()
            return done.returncode, (tmp_path / "log").read_text()

        result: Tuple[int, str] = namespaces(work)
        return result

    return run


def mounts_below(path: Path) -> List[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if os.fspath(path) in line]


def test_the_only_interface_is_lo(namespaces: Namespaces) -> None:
    """No network but the machine's own, which is up."""

    def work() -> Tuple[List[str], bytes]:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            accepted = server.accept()[0]
            client.sendall(b"x")
            return [name for _, name in socket.if_nameindex()], accepted.recv(1)

    names, data = namespaces(work)
    assert names == ["lo"]
    assert data == b"x"


def test_own_process_numbers_and_host_name(namespaces: Namespaces) -> None:
    assert namespaces(lambda: (os.getpid(), socket.gethostname())) == (1, "localhost")


def test_the_makers_umask_has_no_say(namespaces: Namespaces, tmp_path: Path) -> None:
    """Modes of directories that the tool makes do not depend on who calls it."""
    old = os.umask(0o077)
    try:
        namespaces(lambda: (tmp_path / "d").mkdir())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o755


def test_host_files_are_not_visible(inside: "Callable[[str, bool], Tuple[int, str]]", tmp_path: Path) -> None:
    """The view's root is all there is: nothing of the host, no way up, no environment."""
    canary = tmp_path / "canary"
    canary.write_text("")
    up = "../" * 20
    code, text = inside(f"cat {canary}; cat {up}{canary}; cat /proc/self/environ; ls /; ls -a /tmp", False)
    lines = text.replace("\0", "\n").splitlines()
    assert sum("No such file" in line for line in lines) == 2
    assert {"bin", "dev", "etc", "home", "proc", "tmp"} <= set(lines)
    assert not {"root", "work", "canary"} & set(lines)
    assert [line for line in lines if line.startswith("PATH=")] == ["PATH=/bin"]
    assert not [line for line in lines if line.startswith(("HOME=", "USER="))]


def test_nothing_of_the_host_is_mounted(inside: "Callable[[str, bool], Tuple[int, str]]") -> None:
    """The old root is gone from the mount table, too."""
    text = inside("cat /proc/self/mountinfo", False)[1]
    mounts = {line.split()[4]: line.split()[5].split(",") for line in text.splitlines()}
    guarded = {point for point in mounts if point.startswith("/proc/")}
    devices = {f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero")}
    assert set(mounts) - guarded == {"/", "/dev", "/dev/pts", "/dev/pts/ptmx", "/dev/shm", *devices, "/proc", "/tmp"}
    assert "/proc/sys" in guarded and all("ro" in mounts[point] for point in guarded)


def test_builds_run_as_opam(inside: "Callable[[str, bool], Tuple[int, str]]") -> None:
    """User and group 1000, no other groups, no capability at all, none to be had."""
    code, text = inside(
        "id -u; id -g; id -G; cat /proc/self/status; touch /bin/x || echo refused; touch /home/opam/x && echo ok", True
    )
    lines = text.splitlines()
    assert lines[:3] == ["1000", "1000", "1000"]
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert [int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
    # A new user namespace has all of them again. The same set is seen where the kernel gives none.
    assert int(status["CapBnd"], 16) == sum(1 << number for number in privileges.DPKG)
    assert status["NoNewPrivs"] == "1"
    assert "refused" in lines and "ok" in lines


def test_root_inside_lacks_what_could_lead_out(inside: "Callable[[str, bool], Tuple[int, str]]") -> None:
    """Maintainer scripts may chown and chmod, but not mount, trace, load modules or open files by handle."""
    code, text = inside("cat /proc/self/status; mknod /tmp/n b 8 0 || echo refused; chown 5:5 /etc && echo ok", False)
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    capabilities = int(status["CapEff"], 16)
    assert capabilities == int(status["CapBnd"], 16)
    has = {number for number in range(64) if capabilities >> number & 1}
    # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP
    assert has <= {0, 1, 3, 4, 5, 6, 7, 10, 18, 31}
    assert {0, 1, 3, 6, 7} <= has
    assert status["NoNewPrivs"] == "1"
    assert text.splitlines()[-2:] == ["refused", "ok"]


def test_devices(inside: "Callable[[str, bool], Tuple[int, str]]") -> None:
    """The few devices that programs expect work; /dev/fd and /tmp as everywhere."""
    script = "echo x > /dev/null; cat /dev/null; echo y | cat /dev/stdin; stat -c %a /tmp /dev/shm; ls /dev"
    code, text = inside(script, True)
    lines = text.splitlines()
    assert lines[:3] == ["y", "1777", "1777"]
    assert lines[3:] == sorted(
        ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    )


def test_bound_inputs_are_read_only(namespaces: Namespaces, tiny_root: Path, tmp_path: Path) -> None:
    """A file of the sandbox can be shown inside, and not even root writes to it."""
    source = tmp_path / "source"
    source.write_text("input")
    os.symlink(source, tmp_path / "link")

    def work() -> str:
        overlay = Overlay([tiny_root], tmp_path / "scratch", rootless=False)
        overlay.mount()
        (overlay.root / "tmp/input").touch()
        overlay.bind(tmp_path / "link", "tmp/input")
        with open(tmp_path / "log", "wb") as log:
            overlay.run(["sh", "-c", "cat /tmp/input; echo evil > /tmp/input; echo $?"], ENV, log, user=False)
        overlay.remove()
        return (tmp_path / "log").read_text()

    text = namespaces(work)
    assert text.startswith("input") and "Read-only" in text
    assert source.read_text() == "input"


def test_removal_never_goes_through_the_view(namespaces: Namespaces, tiny_root: Path, tmp_path: Path) -> None:
    """Cleaning up after a failure, with the view still mounted: inputs, the host's devices and lower layers stay."""
    (tmp_path / "inputs").mkdir()
    source = tmp_path / "inputs/source"
    source.write_text("input")
    os.chmod(source, 0o640)

    def work() -> bool:
        overlay = Overlay([tiny_root], tmp_path / "scratch", rootless=False)
        overlay.mount()
        (overlay.root / "tmp/inputs").mkdir()
        (overlay.root / "tmp/source").touch()
        overlay.bind(tmp_path / "inputs", "tmp/inputs", writable=True)
        overlay.bind(source, "tmp/source")
        overlay.remove()
        return (tmp_path / "scratch").exists()

    try:
        assert namespaces(work) is False
        assert source.read_text() == "input"
        assert stat.S_IMODE(source.stat().st_mode) == 0o640
        assert stat.S_IMODE(os.stat("/dev/null").st_mode) == 0o666
        assert (tiny_root / "bin/sh").exists()
    finally:
        os.chmod("/dev/null", 0o666)  # whatever went wrong above, the machine is to stay usable


def test_nothing_remains_mounted(namespaces: Namespaces, tiny_root: Path, tmp_path: Path) -> None:
    """Mounts are the namespace's own, also where nobody unmounts."""
    namespaces(lambda: Overlay([tiny_root], tmp_path / "scratch", rootless=False).mount())
    assert mounts_below(tmp_path) == []
    assert os.listdir(tmp_path / "scratch/merged") == []


def test_many_lower_layers(namespaces: Namespaces, tiny_root: Path, tmp_path: Path) -> None:
    """Hundreds of layers with long paths fit; the top one wins; more than overlayfs takes is an error that says so."""
    layers = [tiny_root]
    for number in range(MAX_LOWER - 1):
        layer = tmp_path / ("layer-" + "x" * 200) / str(number)
        layer.mkdir(parents=True)
        (layer / f"f{number}").write_text("")
        (layer / "top").write_text(str(number))
        layers.append(layer)

    def work() -> Tuple[int, str]:
        overlay = Overlay(layers, tmp_path / "scratch", rootless=False)
        overlay.mount()
        names = os.listdir(overlay.root)
        return sum(name[0] == "f" for name in names), (overlay.root / "top").read_text()

    assert namespaces(work) == (MAX_LOWER - 1, str(MAX_LOWER - 2))
    with pytest.raises(ToolError, match=str(MAX_LOWER)):
        Overlay([tiny_root] * (MAX_LOWER + 1), tmp_path / "more", rootless=False)


def test_exit_status(namespaces: Namespaces, capfd: "pytest.CaptureFixture[str]") -> None:
    """Errors inside are what they would be outside: a message, 1 or 2; a signal is 128 and its number."""

    def tool_error() -> int:
        raise ToolError("mend it")

    def request_error() -> int:
        raise RequestError("no sense")

    def kill() -> int:
        os.kill(os.getppid() or os.getpid(), 0)
        os.execv("/bin/sh", ["sh", "-c", "exit 7"])
        return 0

    assert run_isolated(tool_error) == 1
    assert run_isolated(request_error) == 2
    assert run_isolated(kill) == 7
    assert capfd.readouterr().err == "error: mend it\nerror: no sense\n"


_OUTER = """
import subprocess, sys, time
from opam_sandbox.sandbox.namespaces import run_isolated

def main():
    subprocess.Popen(["setsid", "sh", "-c", "trap '' HUP TERM INT; echo ready; sleep %(tag)s; sleep %(tag)s"])
    time.sleep(60)
    return 0

sys.exit(run_isolated(main))
"""


def _running(tag: str) -> List[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if tag.encode() in Path("/proc", name, "cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_dies_with_the_outer_process(namespaces: Namespaces, number: signal.Signals) -> None:
    """Also a daemon with a session of its own that ignores signals."""
    tag = f"61.{os.getpid()}{int(number)}"
    environment = {**os.environ, "PYTHONPATH": os.fspath(REPOSITORY / "src")}
    outer = subprocess.Popen([sys.executable, "-c", _OUTER % {"tag": tag}], stdout=subprocess.PIPE, env=environment)
    assert outer.stdout is not None
    assert outer.stdout.readline() == b"ready\n"
    assert len(_running(tag)) >= 2
    outer.send_signal(number)
    outer.wait(10)
    outer.stdout.close()
    deadline = time.monotonic() + 10
    while _running(tag) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _running(tag) == []
