"""`pants run`: a container that behaves like a command, and of which nothing stays."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import pytest

from tests.e2e.conftest import ROOT, Layout, Pants, tool
from tests.e2e.engines import podman_storage
from tests.support.sandbox_tool import copy_tool, filelock_package
from tests.support.small_images import make_image

PROGRAMS = {
    name: path
    for name in ("runc", "crun")
    for path in [shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if path
}


@dataclass
class Runner:
    """The tool's `run` on a layout, with a store of unpacked layers that is kept."""

    directory: Path
    layout: Path
    kind: str

    def argv(self, *arguments: str, **request: Any) -> List[str]:
        values: Dict[str, Any] = {
            "image": str(self.layout),
            "store": str(self.directory / "store"),
            "runtime": PROGRAMS[self.kind],
            "kind": self.kind,
            "env": [],
            "network": "host",
            "hostname": "hello",
            "volumes": [],
            **request,
        }
        path = self.directory / f"request-{len(list(self.directory.iterdir()))}.json"
        path.write_text(json.dumps(values))
        # As Pants has it: a directory of the sources alone.
        modules = f"PYTHONPATH={ROOT / 'src'}:{filelock_package().parent}"
        command = [sys.executable, "-sB", "-m", "opam_sandbox.publishing", "run", str(path)]
        return ["env", modules, *command, "--", *arguments]

    def run(self, *arguments: str, input: str = "", **request: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv(*arguments, **request),
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """In a process group of its own, after the command said something."""
        process = subprocess.Popen(
            self.argv(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def check_nothing_is_left(self, *marks: str) -> None:
        """No process with these words, no mount, no directory."""
        deadline = time.monotonic() + 10
        while True:
            left = [mark for mark in marks if mark in processes()]
            left += [str(path) for path in (self.directory / "store" / "run").glob("*/*")]
            if not left or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        assert left == []
        for path in Path("/proc").glob("[0-9]*/mountinfo"):
            try:
                assert str(self.directory / "store" / "run") not in path.read_text(), path
            except OSError:
                pass


def processes() -> str:
    return tool("ps", "-e", "-o", "args").stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    target = tmp_path_factory.mktemp("run")
    (target / "store").mkdir()
    unpacked = caches().parent / "v1"
    if unpacked.is_dir():
        # The layers that builds have unpacked, as `pants run` finds them.
        (target / "store" / "v1").symlink_to(unpacked)
    yield target
    shutil.rmtree(target, ignore_errors=True)


@pytest.fixture(params=sorted(PROGRAMS))
def runner(request: Any, hello: Layout, store: Path) -> Runner:
    return Runner(store, hello.path, request.param)


def test_command(runner: Runner) -> None:
    """Arguments, standard input, the image's user, environment and directory, and the exit status."""
    done = runner.run("sh", "-c", 'id -un; pwd; echo "$OPAM_SWITCH_PREFIX $A"; cat; exit 7', input="in", env=["A=b"])
    assert done.stdout == "opam\n/home/opam\n/home/opam/.opam/default b\nin"
    assert (done.returncode, done.stderr) == (7, "")
    assert "react" in runner.run("ocamlfind", "list").stdout
    assert "react" in runner.run().stdout  # the image's Cmd
    for name, code, what in (
        ("no-such-command", 127, "is not found"),
        ("/no/such", 127, "is not found"),
        ("/etc", 126, "is not a program"),
        ("/etc/passwd", 126, "is not a program"),
    ):
        missing = runner.run(name)
        assert (missing.returncode, missing.stderr) == (code, f"error: {name} {what} in the image\n")
    runner.check_nothing_is_left()


def test_what_is_written_is_gone(runner: Runner) -> None:
    runner.run("sh", "-c", "echo changed > /home/opam/f; rm -rf /home/opam/.opam/default")
    assert runner.run("sh", "-c", "ls /home/opam/f; ocamlfind list").stdout.count("react")
    runner.check_nothing_is_left()


def test_volume_and_network(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("shown")
    os.chmod(tmp_path, 0o755)
    volumes = [{"source": str(tmp_path), "target": "/srv/data"}]
    done = runner.run("sh", "-c", "cat /srv/data/f; tail -n +3 /proc/net/dev | wc -l", volumes=volumes, network="none")
    assert done.stdout == "shown1\n"


def test_sees_nothing_of_the_machine(runner: Runner) -> None:
    """Neither processes of others nor the host's files; and no privileges."""
    done = runner.run(
        "sh", "-c", "ls /proc | grep -c '^[0-9]'; ls /work /root/.cache 2>&1 | grep -c 'No such\\|denied'"
    )
    assert int(done.stdout.split()[0]) <= 4 and done.stdout.split()[1] == "2"
    status = runner.run("grep", "CapEff", "/proc/self/status").stdout
    assert int(status.split()[1], 16) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_it(runner: Runner, number: int, code: int) -> None:
    """As they would end the command itself, whether they reach the process or its group."""
    for send in (os.kill, os.killpg):
        process = runner.start("sh", "-c", "echo ready; exec sleep 86411")
        send(process.pid, number)
        assert process.wait(20) == code
    runner.check_nothing_is_left("sleep 86411")


def test_signals_are_the_commands_to_handle(runner: Runner) -> None:
    script = "trap 'echo usr; exit 9' USR1; trap 'echo int' INT; echo ready; while :; do sleep 0.1; done"
    process = runner.start("sh", "-c", script)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "int\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.read() == "usr\n"
    assert process.wait(20) == 9
    runner.check_nothing_is_left()


def test_ends_with_the_command(runner: Runner) -> None:
    """What the command left running ends with it, also in a session of its own."""
    done = runner.run("sh", "-c", "setsid sleep 86444 > /dev/null 2>&1 & exit 3")
    assert done.returncode == 3
    runner.check_nothing_is_left("sleep 86444")


def test_killed(runner: Runner) -> None:
    """SIGKILL of the group, as Pants does it in the end: children in sessions of their own end as well."""
    process = runner.start("sh", "-c", "setsid sleep 86422 & echo ready; sleep 86422")
    assert "sleep 86422" in processes()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    runner.check_nothing_is_left("sleep 86422")


def test_damaged_layer(runner: Runner, tmp_path: Path) -> None:
    make_image(tmp_path / "image", [{"f": b"x"}])
    blobs = sorted((tmp_path / "image/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    manifest = json.loads((tmp_path / "image/index.json").read_text())["manifests"][0]["digest"]
    layer = json.loads((tmp_path / "image/blobs" / manifest.replace(":", "/")).read_text())["layers"][0]["digest"]
    [blob] = [path for path in blobs if path.name == layer[7:]]
    blob.write_bytes(blob.read_bytes()[:-9])
    done = Runner(runner.directory, tmp_path / "image", runner.kind).run("x")
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
@pytest.mark.parametrize("user", ["subordinate ids", "one id"])
def test_without_root(runner: Runner, user: str) -> None:
    """With a range of subordinate ids the command runs as the image's user, without one as root of its namespace."""
    with tempfile.TemporaryDirectory(prefix="rootless") as name:
        directory = Path(name)
        os.chmod(directory, 0o755)
        copy_tool(directory / "tool")
        make_image(directory / "image", [host_programs("sh", "id", "cat")], User="opam", Env=["PATH=/bin"])
        for path in directory.rglob("*"):
            os.chmod(path, 0o755)
        uid = 12345
        if user == "subordinate ids":
            line = next((line for line in Path("/etc/subuid").read_text().splitlines() if line), "")
            if not line or not shutil.which("newuidmap"):
                pytest.skip("nobody has subordinate ids here")
            uid = int(tool("id", "-u", line.split(":")[0]).stdout)
        (directory / "store").mkdir()
        os.chown(directory / "store", uid, uid)
        runner = Runner(directory, directory / "image", runner.kind)
        argv = runner.argv("sh", "-c", "id -u > /home/opam/f; cat /home/opam/f; exit 5")
        request = argv[argv.index("run") + 1]
        os.chmod(request, 0o644)
        setpriv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        done = subprocess.run(
            [*setpriv, "/usr/bin/python3", *argv[3:]],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(directory / "tool"), "HOME": str(directory)},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert (done.returncode, done.stdout) == (5, "1000\n" if uid != 12345 else "0\n"), done.stderr
        runner.check_nothing_is_left()


def host_programs(*names: str) -> Dict[str, bytes]:
    """Programs of this machine with their libraries and a user, as the files of a layer."""
    files = {"etc/passwd": b"opam:x:1000:1000::/home/opam:/bin/sh\n", "home/opam/.profile": b""}
    for name in names:
        path = shutil.which(name)
        assert path
        files[f"bin/{name}"] = Path(path).read_bytes()
        for library in re.findall(r"(/\S+) \(0x", tool("ldd", path).stdout):
            files[library[1:]] = Path(library).read_bytes()
    return files


# Through Pants.


def in_terminal(
    argv: Sequence[str], steps: Sequence[Tuple[bytes, bytes]], size: Tuple[int, int] = (33, 111)
) -> Tuple[int, bytes]:
    """Run a command in a terminal; after each text of `steps` was seen, type. Returns the exit status and the output."""
    pid, descriptor = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        os.chdir(ROOT)
        os.environ["PANTS_DYNAMIC_UI"] = "true"  # without it, Pants' daemon hands on pipes
        os.execvp(argv[0], list(argv))
    seen = b""
    poll = select.poll()  # unlike select, it takes any descriptor
    poll.register(descriptor, select.POLLIN)

    def read_until(text: Optional[bytes]) -> None:
        nonlocal seen
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and (text is None or text not in seen):
            if poll.poll(200):
                try:
                    data = os.read(descriptor, 4096)
                except OSError:
                    return
                if not data:
                    return
                seen += data

    for text, keys in steps:
        read_until(text)
        time.sleep(0.5)  # a shell may lose an interrupt between two commands; a person is slower
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size[0] + 1, size[1] + 1, 0, 0))
        os.write(descriptor, keys)
    read_until(None)
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(2)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(descriptor)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status), seen


def test_terminal(hello: Layout) -> None:
    script = "test -t 0 && test -t 1 && stty size; echo go; read x; echo got $x; sleep 3; stty size; exit 3"
    argv = ["./pants", "run", "//images:hello", "--", "sh", "-c", script]
    code, seen = in_terminal(argv, [(b"go\r\n", b"word\n")])
    assert code == 3 and b"33 111\r\n" in seen and b"got word" in seen and b"34 112\r\n" in seen


def caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pants/named_caches/opam_oci_layers/run"


@pytest.mark.parametrize("daemon", ["--pantsd", "--no-pantsd"])
def test_interrupt_key(hello: Layout, daemon: str) -> None:
    """Ctrl-C ends the container, and leaves neither process nor mount nor directory."""
    before = set(caches().glob("*/*"))
    script = "setsid sleep 86433 & echo go; sleep 86433"
    argv = ["./pants", daemon, "run", "//images:hello", "--", "sh", "-c", script]
    code, seen = in_terminal(argv, [(b"go\r\n", b"\x03")])
    assert code != 0, seen
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and ("sleep 86433" in processes() or set(caches().glob("*/*")) - before):
        time.sleep(0.1)
    assert "sleep 86433" not in processes()
    assert set(caches().glob("*/*")) <= before
    assert "opam_oci_layers/run" not in Path("/proc/self/mountinfo").read_text()


def test_load_into_podman(pants: Pants, hello: Layout) -> None:
    """Under the names that it is published with. (Containers are not started: podman needs cgroups that not all have.)"""
    with podman_storage() as podman:
        options = ("--oci-run-runtime=podman", f"--oci-run-engine-args={' '.join(podman[1:])}", "--oci-run-load-only")
        done = pants.run(*options, "run", "//images:hello")
        assert re.search(r"Loaded sha256:[0-9a-f]{64} into podman", done.stderr)
        names = "{{range .Names}}{{.}} {{end}}"
        assert done.stdout == "hello:latest\n"
        assert tool(*podman, "images", "--format", names).stdout.split() == ["localhost/hello:latest"]
        command = tool(*podman, "image", "inspect", "--format", "{{.Config.Cmd}}", "hello:latest")
        assert command.stdout == "[ocamlfind list]\n"


def test_through_pipes(pants: Pants, hello: Layout) -> None:
    done = subprocess.run(
        ["./pants", "run", "//images:hello", "--", "sh", "-c", "cat; exit 4"],
        cwd=ROOT,
        input=b"through\n",
        stdout=subprocess.PIPE,
        timeout=200,
    )
    assert (done.returncode, done.stdout) == (4, b"through\n")
