"""What the end-to-end tests share: this checkout's own `./pants`, the images it builds, and other people's tools."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Pants:
    """`./pants` in a checkout, with caches of its own if `caches` is given, else the user's.

    home: a home of its own, and nothing else in the environment but PATH. python: the Python to set Pants up with."""

    root: Path
    caches: Optional[Path] = None
    home: Optional[Path] = None
    python: str = ""
    options: Sequence[str] = ()
    prefix: Sequence[str] = ()

    def run(self, *args: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        env = {key: value for key, value in os.environ.items() if not key.startswith("PANTS_")}
        env["PANTS_DYNAMIC_UI"] = "false"
        if self.home:
            env = {"HOME": str(self.home), "PATH": env["PATH"], "PANTS_DYNAMIC_UI": "false"}
        if self.python:
            env["PANTS_PYTHON"] = self.python
        if self.caches:
            env["PANTS_LOCAL_STORE_DIR"] = str(self.caches / "lmdb_store")
            env["PANTS_NAMED_CACHES_DIR"] = str(self.caches / "named_caches")
        done = subprocess.run(
            [*self.prefix, "./pants", *self.options, *args],
            cwd=self.root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if check and done.returncode != 0:
            pytest.fail(f"./pants {' '.join(args)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr[-8000:]}")
        return done

    def daemons(self) -> FrozenSet[int]:
        """The pids of this checkout's pantsd."""
        found = set()
        for path in (self.root / ".pids").rglob("pid"):
            try:
                os.kill(int(path.read_text()), 0)
                found.add(int(path.read_text()))
            except (OSError, ValueError):
                continue
        return frozenset(found)

    def stop(self, keep: FrozenSet[int] = frozenset()) -> None:
        """End this checkout's pantsd, by its pid, unless it is one to keep."""
        for pid in self.daemons() - keep:
            os.kill(pid, signal.SIGTERM)


@dataclass
class Layout:
    """An OCI image layout with one image."""

    path: Path

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")

    def json(self, digest: str) -> Dict[str, Any]:
        data: Dict[str, Any] = json.loads(self.blob(digest).read_text())
        return data

    @property
    def manifest(self) -> Dict[str, Any]:
        index = json.loads((self.path / "index.json").read_text())
        return self.json(index["manifests"][0]["digest"])

    @property
    def config(self) -> Dict[str, Any]:
        return self.json(self.manifest["config"]["digest"])

    @property
    def layers(self) -> List[Dict[str, Any]]:
        layers: List[Dict[str, Any]] = self.manifest["layers"]
        return layers


def tool(*argv: str, check: bool = True, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
    """Run somebody else's program; its output is text."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


@dataclass
class Unpacked:
    """An image unpacked by umoci, and commands run in it by runc."""

    bundle: Path

    @property
    def rootfs(self) -> Path:
        return self.bundle / "rootfs"

    def run(self, *argv: str, check: bool = True, user: int = 1000) -> "subprocess.CompletedProcess[str]":
        """Run a command as the image's user, with its environment, without network, under runc."""
        path = self.bundle / "config.json"
        config = json.loads(path.read_text())
        config["process"]["terminal"] = False
        config["process"]["args"] = list(argv)
        config["process"]["user"] = {"uid": user, "gid": user}
        config["root"]["readonly"] = False
        # A nested sandbox may have no cgroups to give, and none are needed.
        config["linux"].pop("resources", None)
        config["mounts"] = [mount for mount in config["mounts"] if mount["type"] not in ("cgroup", "bind")]
        path.write_text(json.dumps(config))
        name = f"opam-oci-test-{os.getpid()}"
        return tool("runc", "run", "--bundle", str(self.bundle), name, check=check)


def unpack(layout: Layout, target: Path) -> Unpacked:
    tool("umoci", "unpack", "--image", f"{layout.path}:latest", str(target))
    return Unpacked(target)


def layer_directories(layout: Layout, target: Path) -> List[Path]:
    """The layout's base and opam-root as the tool's layer directories."""
    result = []
    for number, (kind, name) in enumerate((("base", "base"), ("opam-root", "default"))):
        descriptor = layout.layers[number]
        directory = target / kind
        (directory / "blobs" / "sha256").mkdir(parents=True)
        shutil.copy(layout.blob(descriptor["digest"]), directory / "blobs" / "sha256")
        description = {
            "kind": kind,
            "name": name,
            "version": "",
            "diff_id": layout.config["rootfs"]["diff_ids"][number],
            "digest": descriptor["digest"],
            "size": descriptor["size"],
            "media_type": descriptor["mediaType"],
            "files": 0,
            "opam": {},
            "dpkg": {},
        }
        (directory / "layer.json").write_text(json.dumps(description))
        result.append(directory)
    return result


@pytest.fixture(scope="session")
def pants() -> Iterator[Pants]:
    pants = Pants(ROOT)
    before = pants.daemons()
    yield pants
    # A daemon that was there before may be somebody's who is at work in this checkout.
    pants.stop(keep=before)


@pytest.fixture(scope="session")
def hello(pants: Pants) -> Layout:
    """//images:hello: a few small packages on Debian's own OCaml."""
    pants.run("package", "//images:hello")
    return Layout(ROOT / "dist" / "images" / "hello")


@pytest.fixture(scope="session")
def zero_install(pants: Pants) -> Layout:
    """//images:0install: the real program, its compiler built from source."""
    pants.run("package", "//images:0install")
    return Layout(ROOT / "dist" / "images" / "0install")


@pytest.fixture(scope="session")
def hello_unpacked(hello: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unpacked]:
    target = tmp_path_factory.mktemp("hello") / "bundle"
    yield unpack(hello, target)
    shutil.rmtree(target, ignore_errors=True)


@pytest.fixture(scope="session")
def zero_install_unpacked(zero_install: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unpacked]:
    target = tmp_path_factory.mktemp("0install") / "bundle"
    yield unpack(zero_install, target)
    shutil.rmtree(target, ignore_errors=True)


def make_clone(target: Path) -> Path:
    """Another clone of this checkout at another path, beside a link to shared/."""
    tool("git", "clone", "--quiet", str(ROOT), str(target))
    # What is not committed yet counts as well.
    changed = tool(
        "git", "-C", str(ROOT), "ls-files", "--modified", "--others", "--exclude-standard"
    ).stdout.splitlines()
    for name in changed:
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    shared = ROOT.parent / "shared"
    if shared.exists():
        (target.parent / "shared").symlink_to(shared)
    return target


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Pants]:
    pants = Pants(make_clone(tmp_path / "elsewhere" / "main"), options=["--no-pantsd"])
    yield pants
    pants.stop()
    shutil.rmtree(tmp_path, ignore_errors=True)


@dataclass
class RemoteCache:
    """build-support/cache-server on loopback, as somebody else would run it."""

    directory: Path
    port: int = 0
    process: Optional["subprocess.Popen[bytes]"] = None

    def start(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        self.directory.mkdir(exist_ok=True)
        log = open(self.directory / "server.log", "ab")
        argv = [str(ROOT / "build-support/cache-server"), str(self.directory), str(self.port)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 180  # the first start installs it
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        pytest.fail(f"the cache server does not start:\n{(self.directory / 'server.log').read_text()[-4000:]}")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    @property
    def options(self) -> List[str]:
        return [
            f"--remote-store-address=grpc://127.0.0.1:{self.port}",
            "--remote-instance-name=",
            "--remote-cache-read",
            "--remote-cache-write",
        ]


# The name and ids of a user who exists in a test's own mount namespace only.
USER, USER_ID = "opam-oci-tester", 47010


def as_user(home: Path, before: str) -> List[str]:
    """A command's prefix that runs it as an ordinary user with sub-ids, as distributions set users up.

    The user exists for that command alone: its /etc/passwd, group, subuid and subgid are its own. `before`: a shell
    command that is run as root in its mount namespace.
    """
    accounts = home.parent / "accounts"
    accounts.mkdir(exist_ok=True)
    for name, line in (
        ("passwd", f"{USER}:x:{USER_ID}:{USER_ID}::{home}:/bin/sh"),
        ("group", f"{USER}:x:{USER_ID}:"),
        ("subuid", f"{USER}:2100000000:65536"),
        ("subgid", f"{USER}:2100000000:65536"),
    ):
        host = Path("/etc", name)
        (accounts / name).write_text((host.read_text() if host.exists() else "") + line + "\n")
        if not host.exists():
            host.touch()
    binds = " && ".join(f"mount --bind {accounts / name} /etc/{name}" for name in os.listdir(accounts))
    user = f"setpriv --reuid={USER_ID} --regid={USER_ID} --clear-groups"
    script = f'{before} && {binds} && exec {user} "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def show_python(scratch: Path) -> Tuple[str, str]:
    """The Python that Pants runs on, and a shell command that lets every user read it in a mount namespace.

    pyenv's versions often lie in root's home, and cannot be moved.
    """
    environment = tool(str(ROOT / "pants"), "--print-python").stdout.strip()
    prefix = Path(tool(environment, "-c", "import sys; print(sys.base_prefix)").stdout.strip())
    closed = [path for path in (prefix, *prefix.parents) if path.stat().st_mode & 0o005 != 0o005]
    if not closed:
        return str(prefix / "bin/python3.9"), "true"
    scratch.mkdir()
    commands = [
        f"mount --bind {prefix} {scratch}",
        f"mount -t tmpfs -o mode=755 tmpfs {closed[-1]}",
        f"mkdir -p {prefix}",
        f"mount --bind {scratch} {prefix}",
    ]
    return str(prefix / "bin/python3.9"), " && ".join(commands)


@dataclass
class Cold:
    """//images:hello built from nothing, far from this checkout, and the remote cache that its layers were written to."""

    pants: Pants
    layout: Layout
    cache: RemoteCache


@pytest.fixture(scope="session")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cold]:
    """Another checkout, another user without privileges (if this is root), one core, empty caches, no pantsd."""
    top = Path(tempfile.mkdtemp(prefix="opam-oci-cold-", dir="/var/tmp"))
    cache = RemoteCache(top / "cache")
    cache.start()
    home, python = top / "home", ""
    home.mkdir()
    root = make_clone(top / "main")
    prefix = ["taskset", "--cpu-list", "0"]
    if os.geteuid() == 0:
        os.chmod(top, 0o755)
        python, show = show_python(top / "python")
        tool("chown", "-R", f"{USER_ID}:{USER_ID}", str(home), str(root))
        prefix = [*as_user(home, show), *prefix]
    pants = Pants(root, home=home, python=python, options=["--no-pantsd", *cache.options], prefix=prefix)
    try:
        pants.run("package", "//images:hello")
        yield Cold(pants, Layout(root / "dist/images/hello"), cache)
    finally:
        cache.stop()
        pants.stop()
        shutil.rmtree(top, ignore_errors=True)
