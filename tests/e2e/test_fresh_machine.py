"""`./pants` on a plain Debian that has apt and git, but no Python 3.9 and no cache of this machine's."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from tests.support.cache_server import free_port
from tests.support.checkout import make_clone, tool

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="another machine is a root directory to chroot into: needs root"
)

# How the network is reached from here: beginnings of variables' names, and files.
HANDED_ON = ("PIP_", "SSL_CERT_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
ENTER = """
set -e
root=$1; user=$2; directory=$3; shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp" -o mode=1777
for file in $FILES; do
  [ ! -e "$file" ] || { [ -e "$root$file" ] || touch "$root$file"; mount --bind "$file" "$root$file"; }
done
exec chroot "$root" setpriv --reuid="$user" --regid="$user" --init-groups sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
"""


@dataclass
class Machine:
    """A Debian in `root`; `mirror` is where it came from."""

    root: Path
    mirror: str

    def start(self, user: str, *argv: str, **env: str) -> "subprocess.Popen[str]":
        """Start a command as root or as `plain`, in the checkout in that user's home. It leads a process group."""
        home = self.home(user)
        handed_on = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
        base = {"HOME": home, "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PANTS_DYNAMIC_UI": "false"}
        return subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", ENTER, "sh", str(self.root), user]
            + [f"{home}/main", *argv],
            env={**handed_on, **base, "FILES": " ".join(FILES), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, user: str, *argv: str, check: bool = True, **env: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(user, *argv, **env)
        stdout, stderr = process.communicate()
        if check:
            assert process.returncode == 0, stdout + stderr
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    @staticmethod
    def home(user: str) -> str:
        return "/root" if user == "root" else f"/home/{user}"

    def outside(self, path: str) -> Path:
        """A path of the machine, as this one sees it."""
        return self.root / path.lstrip("/")

    def daemons(self) -> List[int]:
        files = [self.outside(self.home(user)).glob("main/.pids/*/pantsd/pid") for user in ("root", "plain")]
        pids = [int(path.read_text()) for paths in files for path in paths]
        return [pid for pid in pids if Path("/proc", str(pid)).exists()]

    def stop_daemons(self) -> None:
        pids = self.daemons()
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while self.daemons() and time.monotonic() < deadline:
            time.sleep(0.1)


def host_archives() -> List[Tuple[str, str]]:
    """The URLs of Debian's archives that this machine's apt uses, with "" or what follows the release ("-security")."""
    printed = tool("apt-get", "update", "--print-uris").stdout
    [release] = re.findall(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE) or ["stable"]
    found = re.findall(rf"^'(https?://.*)/dists/{release}(-security|)/InRelease'", printed, re.MULTILINE)
    return sorted(set(found), key=lambda archive: str(archive[1]))


def write_sources(root: Path, release: str, archives: List[Tuple[str, str]]) -> None:
    """apt's sources, for Debian 12 one a line, for Debian 13 as paragraphs that name lists of mirrors."""
    lists = root / "etc/apt/sources.list"
    if release == "bookworm":
        lists.write_text("".join(f"deb {url} {release}{part} main\n" for url, part in archives))
        return
    lists.unlink()
    paragraphs = []
    for number, (url, part) in enumerate(archives):
        (root / f"etc/apt/mirrors{number}.list").write_text(f"{url}\n")
        paragraphs.append(
            f"Types: deb\nURIs: mirror+file:/etc/apt/mirrors{number}.list\nSuites: {release}{part}\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
    (root / "etc/apt/sources.list.d/debian.sources").write_text("\n".join(paragraphs))


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(request: Any) -> Iterator[Machine]:
    release = request.param
    archives = host_archives()
    if not archives:
        pytest.skip("this machine's apt has no Debian mirror that is asked by http")
    top = Path(tempfile.mkdtemp(prefix="opam-oci-fresh-", dir="/var/tmp"))
    machine = Machine(top / release, archives[0][0])
    try:
        made = tool(
            "mmdebstrap", "--variant=minbase", "--include=ca-certificates,git", release, str(machine.root), machine.mirror,
            check=False,
        )  # fmt: skip
        if made.returncode != 0:
            pytest.skip(f"mmdebstrap makes no {release} here: {made.stderr[-500:]}")
        write_sources(machine.root, release, archives)
        network = [line for line in tool("apt-config", "dump").stdout.splitlines() if line.startswith("Acquire::http")]
        (machine.root / "etc/apt/apt.conf.d/90network").write_text("\n".join(network) + "\n")
        tool("chroot", str(machine.root), "useradd", "--create-home", "plain")
        for user in ("root", "plain"):
            make_clone(machine.outside(machine.home(user)) / "main")
        tool("chroot", str(machine.root), "chown", "-R", "plain:plain", "/home/plain")
        yield machine
        machine.stop_daemons()
    finally:
        shutil.rmtree(top, ignore_errors=True)


def check_pants(machine: Machine, user: str) -> None:
    """Pants starts without further ado, its Python has what it needs, and its daemon no variable of the loader's."""
    version = machine.run(user, "./pants", "--version")
    assert "2.17" in version.stdout and "making a Python" not in version.stderr
    assert "images:0install" in machine.run(user, "./pants", "list", "::").stdout.splitlines()
    python = machine.run(user, "./pants", "--print-python").stdout.strip()
    modules = "import bz2, ctypes, lzma, sqlite3, ssl, sys; print(sys.base_prefix)"
    prefix = machine.run(user, python, "-c", modules).stdout
    assert prefix.startswith(f"{machine.home(user)}/.cache/opam-oci-pants/python-3.9-")
    [*_, daemon] = machine.daemons()
    variables = Path(f"/proc/{daemon}/environ").read_bytes()
    assert b"HOME=" in variables and b"\0LD_" not in b"\0" + variables


def installed(machine: Machine) -> Tuple[str, List[str]]:
    """What is installed system-wide, and apt's lists."""
    lists = sorted(str(path) for path in machine.outside("/var/lib/apt").rglob("*"))
    return machine.run("root", "dpkg-query", "--show").stdout, lists


def test_root_starts_pants_after_a_start_that_was_killed(machine: Machine) -> None:
    before = installed(machine)
    first = machine.start("root", "./pants", "--version")
    cache = machine.outside("/root/.cache/opam-oci-pants")
    deadline = time.monotonic() + 60
    while not list(cache.glob("python-3.9-*.new/debs/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert list(cache.glob("python-3.9-*.new")) and not list(cache.glob("python-3.9-*/bin/python3.9"))
    assert "making a Python 3.9" in machine.run("root", "./pants", "--version").stderr
    check_pants(machine, "root")
    assert not list(cache.glob("python-3.9-*.new"))
    assert installed(machine) == before


def test_a_user_starts_pants_twice_at_once(machine: Machine) -> None:
    starts = [machine.start("plain", "./pants", "--print-python") for _ in range(2)]
    printed = [start.communicate() for start in starts]
    assert [start.returncode for start in starts] == [0, 0], printed
    assert sum("making a Python 3.9" in stderr for _, stderr in printed) == 1
    check_pants(machine, "plain")


def test_the_remote_cache_starts(machine: Machine) -> None:
    port = free_port()
    server = machine.start("plain", "build-support/cache-server", "/tmp/cache", str(port))
    try:
        deadline = time.monotonic() + 300
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)) != 0:
                assert server.poll() is None and time.monotonic() < deadline, server.communicate()
                time.sleep(0.2)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


@contextlib.contextmanager
def mirror(upstream: str, change: Callable[[str, bytes], bytes]) -> Iterator[str]:
    """A mirror on loopback of the archive at `upstream`, some of whose files `change` changes or (FileNotFoundError) lacks."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                with urllib.request.urlopen(upstream + self.path) as answer:
                    content = change(self.path, answer.read())
            except (urllib.error.HTTPError, FileNotFoundError):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def start_without_cache(machine: Machine, **env: str) -> str:
    """The messages of a start that fails, as it should, and leaves no Python behind."""
    cache = machine.outside("/home/plain/other")
    try:
        done = machine.run("plain", "./pants", "--version", check=False, XDG_CACHE_HOME="/home/plain/other", **env)
        assert done.returncode == 1 and done.stdout == "", done.stdout
        assert not [path for path in cache.rglob("python3.9") if ".new/" not in str(path)]
        assert not list(cache.rglob(".complete"))
        for way_out in ("pyenv install 3.9", "PANTS_PYTHON ", "PANTS_DEBIAN_MIRROR"):
            assert way_out in done.stderr, done.stderr
        return done.stderr
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def test_mirrors_without_bullseye(machine: Machine) -> None:
    def change(path: str, content: bytes) -> bytes:
        if "/dists/bullseye" in path:
            raise FileNotFoundError(path)
        return content

    with mirror(machine.mirror, change) as url:
        sources = machine.outside("/etc/apt/only-this.list")
        sources.write_text(f"deb {url} {machine.root.name} main\n")
        configuration = machine.outside("/etc/apt/only-this.conf")
        configuration.write_text(
            'Dir::Etc::sourcelist "/etc/apt/only-this.list";\nDir::Etc::sourceparts "/dev/null";\n'
        )
        told = start_without_cache(machine, APT_CONFIG="/etc/apt/only-this.conf")
    assert f"  {url} (bullseye)" in told
    assert "no Python 3.9 found" in told and "does not have a Release file" in told


def test_a_mirror_that_lies(machine: Machine) -> None:
    changes: Dict[str, Callable[[str, bytes], bytes]] = {
        "InRelease": lambda path, content: content.replace(b"Origin: Debian", b"Origin: Nobody"),
        "libpython3.9-stdlib": lambda path, content: content[:-1] + bytes([content[-1] ^ 1]),
    }
    for name, change in changes.items():

        def changed(path: str, content: bytes) -> bytes:
            return change(path, content) if name in path else content

        with mirror(machine.mirror, changed) as url:
            told = start_without_cache(machine, PANTS_DEBIAN_MIRROR=url)
        assert re.search(r"Hash Sum mismatch|invalid signature|not signed|[Bb]ad signature|BADSIG", told), told
