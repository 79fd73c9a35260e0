"""What the end-to-end tests share: this checkout's own `./pants`, the images it builds, and other people's tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from tests.support.browser import Browser, find_browser
from tests.support.cache_server import RemoteCache
from tests.support.checkout import ROOT, Pants, make_clone, tool
from tests.support.layouts import Layout
from tests.support.layouts import layer_directories as layer_directories


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


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Pants]:
    pants = Pants(make_clone(tmp_path / "elsewhere" / "main"), options=["--no-pantsd"])
    yield pants
    pants.stop()
    shutil.rmtree(tmp_path, ignore_errors=True)


# The name and ids of a user who exists in a test's own mount namespace only.
USER, USER_ID = "opam-oci-tester", 47010


def as_user(home: Path, before: str, sub_ids: bool = True) -> List[str]:
    """A command's prefix that runs it as an ordinary user, with sub-ids, as distributions set users up, or without.

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
        if name.startswith("sub") and not sub_ids:
            line = ""
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    made = Browser(program)
    yield made
    made.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Pants]:
    """A fresh machine: another clone elsewhere, empty caches, another user and number of cores than the one that built."""
    pants = Pants(make_clone(tmp_path / "b" / "checkout"), caches=tmp_path / "caches", options=["--no-pantsd"])
    yield pants
    pants.stop()
    shutil.rmtree(tmp_path, ignore_errors=True)
