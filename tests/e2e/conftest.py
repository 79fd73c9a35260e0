"""What the end-to-end tests share: this checkout's own `./pants`, the images it builds, and other people's tools."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Sequence

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Pants:
    """`./pants` in a checkout, with caches of its own if `caches` is given, else the user's."""

    root: Path
    caches: Optional[Path] = None
    options: Sequence[str] = ()
    prefix: Sequence[str] = ()

    def run(self, *args: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        env = {key: value for key, value in os.environ.items() if not key.startswith("PANTS_")}
        env["PANTS_DYNAMIC_UI"] = "false"
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


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Pants]:
    """Another clone of this checkout at another path, beside a link to shared/."""
    target = tmp_path / "elsewhere" / "main"
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
    pants = Pants(target, options=["--no-pantsd"])
    yield pants
    pants.stop()
    shutil.rmtree(tmp_path, ignore_errors=True)
