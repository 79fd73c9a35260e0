"""No secret of whoever runs Pants gets into what is made, kept, shown or sent: canaries are planted, used, and looked for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Iterator, List

import pytest

from bench.scratch_project import ScratchProject
from opam_oci.downloads.apt_sources import apt_mirrors
from tests.e2e.conftest import Pants, tool
from tests.e2e.test_push import auth_file
from tests.support import private_network
from tests.support import registry as registries
from tests.support.cache_server import RemoteCache
from tests.support.canaries import Canaries, Watcher, search, unpack_layers
from tests.support.gate import Gate, gate
from tests.support.planted import VARIABLES, Sockets, add_keys, listen, plant_home, remove_keys, spy_script
from tests.support.registry import Registry

ARCHIVE = b"an archive\n" * 1000
MD5, SHA256 = hashlib.md5(ARCHIVE).hexdigest(), hashlib.sha256(ARCHIVE).hexdigest()


class Stage:
    """The project, the servers, and the environment with everything that is planted."""

    def __init__(self, top: Path, server: Gate, address: str) -> None:
        self.top, self.gate, self.canaries = top, server, Canaries()
        self.home, self.sandboxes, self.trace = top / "home", top / "sandboxes", top / "trace.json"
        self.sandboxes.mkdir()
        plant_home(self.home, self.canaries)
        self.sockets = Sockets([], set())
        for name in (str(top / "agent"), "\0opam-oci-test-agent", str(self.home / "docker.sock")):
            listen(name, self.sockets)
        self.output = b""
        c = self.canaries
        server.users = {name: f"{name}-user:{c[name]}" for name in ("debian", "archives", "git", "tar")}
        server.proxy_user = f"proxy-user:{c['proxy']}"
        proxy = f"http://proxy-user:{c.in_url('proxy')}@127.0.0.1:{server.proxy_port}"
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PANTS_")},
            "HOME": str(self.home),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
            "PANTS_DYNAMIC_UI": "false",
            **{name: c[f"env {name}"] for name in VARIABLES},
            "DEBIAN_URL": self.url("debian"),
            "ARCHIVES_URL": self.url("archives"),
            "GIT_URL": "git+" + self.url("git"),
            "TAR_URL": self.url("tar"),
            "http_proxy": proxy,
            "HTTPS_PROXY": proxy,
            "CACHE_TOKEN": c["cache header"],
            "RUN_SECRET": c["run"],
            "SSH_AUTH_SOCK": self.sockets.paths[0],
            "DOCKER_HOST": f"unix://{self.sockets.paths[2]}",
        }
        (top / "token").write_text(c["cache token"])
        self.project = self._project(address)

    def url(self, name: str) -> str:
        return f"http://{name}-user:{self.canaries.in_url(name)}@127.0.0.1:{self.gate.port}/{name}"

    def _project(self, address: str) -> ScratchProject:
        repositories = {
            "own": "repository",
            "git": f"%(env.GIT_URL)s/repo.git#{self._git()}",
            "tar": f"%(env.TAR_URL)s/repo.tar#{self._tar()}",
        }
        options = 'repository_order = ["own", "git", "tar"]\narchive_mirrors = ["%(env.ARCHIVES_URL)s"]'
        project = ScratchProject(self.top / "project", ["default", "failing", "fetched"], options, repositories)
        text = (project.directory / "pants.toml").read_text()
        text = text.replace("[debian.resolves]", '[debian]\nmirrors = ["%(env.DEBIAN_URL)s"]\n\n[debian.resolves]')
        text = text.replace("trixie-ocaml =", 'small = "3rdparty/debian/small.lock"\ntrixie-ocaml =')
        (project.directory / "pants.toml").write_text(
            text.replace("[debian]\n", "[debian]\nsource_suites = []\n")
            + f'\n[oci-run]\nenv_vars = ["RUN_SECRET"]\n[oci-publish.registries.r]\naddress = "{address}"\ndefault = true\n'
        )
        archive = f'url {{ src: "http://127.0.0.1:9/a.txt" checksum: "md5={MD5}" }}\n'
        spy = spy_script(self.sockets, self.home, project.directory)
        build = 'build: ["sh" "spy.sh"]\nextra-files: ["spy.sh" "md5=%s"]\n' % hashlib.md5(spy.encode()).hexdigest()
        project.write(
            {
                "repository/packages/spy/spy.1/opam": 'opam-version: "2.0"\n'
                + 'build: ["sh" "-c" "sh spy.sh > found; cat found"]\n'
                + 'install: ["sh" "-c" "mkdir -p \'%{share}%\' && cp found \'%{share}%\'"]\n'
                + build.partition("\n")[2],
                "repository/packages/spy/spy.1/files/spy.sh": spy,
                "repository/packages/failing/failing.1/opam": 'opam-version: "2.0"\n'
                + 'build: ["sh" "-c" "sh spy.sh; exit 3"]\n'
                + build.partition("\n")[2],
                "repository/packages/failing/failing.1/files/spy.sh": spy,
                "repository/packages/fetched/fetched.1/opam": f'opam-version: "2.0"\n{archive}',
                "BUILD": "".join(
                    f'opam_requirement(name="{name}-roots", resolve="{name}", requirements={roots!r})\n'
                    f'opam_packages(name="{name}", resolve="{name}")\n'
                    for name, roots in (
                        ("default", ["spy", "of-git", "of-tar"]),
                        ("failing", ["failing"]),
                        ("fetched", ["fetched"]),
                    )
                )
                + 'oci_package_image(name="image", packages=["//:default#spy", "//:default#of-git"], cmd=["true"])\n'
                + 'oci_package_image(name="bad", packages=["//:failing#failing"])\n'
                + 'oci_package_image(name="gone", packages=["//:fetched#fetched"])\n'
                + 'debian_rootfs(name="small", resolve="small", suite="trixie", packages=["adduser"])\n',
                ".env": f"TOKEN={self.canaries['.env']}\n",
            }
        )
        place = self.gate.files / f"archives/md5/{MD5[:2]}/{MD5}"
        place.parent.mkdir(parents=True)
        place.write_bytes(ARCHIVE)
        return project

    def _git(self) -> str:
        """A repository for git's dumb protocol; returns the commit."""
        work, served = self.top / "work", self.gate.files / "git/repo.git"
        package = work / "packages/of-git/of-git.1/opam"
        package.parent.mkdir(parents=True)
        package.write_text(f'opam-version: "2.0"\n# {time.time()}\n')
        tool("git", "init", "--quiet", str(work))
        tool("git", "-C", str(work), "add", ".")
        tool(*"git -c user.name=a -c user.email=a@b -C".split(), str(work), "commit", "--quiet", "-m", "a")
        tool("git", "clone", "--quiet", "--bare", str(work), str(served))
        tool("git", "-C", str(served), "update-server-info")
        return tool("git", "-C", str(work), "rev-parse", "HEAD").stdout.strip()

    def _tar(self) -> str:
        package = self.top / "packages/of-tar/of-tar.1/opam"
        package.parent.mkdir(parents=True)
        package.write_text(f'opam-version: "2.0"\n# {time.time()}\n')
        path = self.gate.files / "tar/repo.tar"
        path.parent.mkdir(parents=True)
        with tarfile.open(path, "w") as archive:
            archive.add(self.top / "packages", "packages")
        content = path.read_bytes()
        return f"sha256={hashlib.sha256(content).hexdigest()}&size={len(content)}"

    def pants(self, *arguments: str, status: int = 0, prefix: "List[str] | None" = None, **env: str) -> str:
        """Run Pants at its most talkative, and have it keep the sandboxes of what fails. Returns what it printed.

        prefix: a command that runs it. Without its daemon, which would not be in the network namespace that this makes."""
        options = [
            *("--no-pantsd", "-ldebug", "--keep-sandboxes=on_failure", f"--opam-trace-file={self.trace}"),
            f"--local-execution-root-dir={self.sandboxes}",
            f"--remote-oauth-bearer-token-path={self.top / 'token'}",
        ]
        done = subprocess.run(
            [*(prefix or []), "./pants", *options, *arguments],
            cwd=self.project.directory,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=900,
        )
        self.output += done.stdout
        text = done.stdout.decode(errors="replace")
        assert done.returncode == status, text[-6000:]
        return text


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    files = tmp_path / "served"
    files.mkdir()
    canaries = Canaries()
    monkeypatch.setattr(registries, "PASSWORD", canaries["registry"])
    with Registry(tmp_path / "registry", auth=True) as registry:
        with gate(Gate(files, apt_mirrors(Path("/etc/apt"))[0])) as server:
            stage = Stage(tmp_path, server, registry.address)
            stage.canaries._by_name.update(canaries._by_name)
            right = auth_file(tmp_path / "auth.json", registry.address, canaries["registry"])
            auth_file(tmp_path / "wrong.json", registry.address, stage.canaries["wrong password"])
            stage.env.update(right)
            keys = add_keys(stage.canaries)
            yield stage
            remove_keys(keys)
            stage.project.stop_daemon()


def changed_since(places: List[Path], moment: float) -> List[Path]:
    """Files that were written since."""
    found = []
    for place in places:
        for directory, _, names in os.walk(place):
            for name in names:
                path = Path(directory, name)
                try:
                    if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= moment:
                        found.append(path)
                except OSError:
                    continue
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="the metadata service is played in a network namespace of root's")
def test_no_secret_is_kept_or_shown(pants: Pants, stage: Stage, tmp_path: Path) -> None:
    start = time.time()
    c, server = stage.canaries, stage.gate
    cache = RemoteCache(tmp_path / "cache")
    cache.start()
    remote = list(cache.options)
    notes = tmp_path / "notes"
    network = [sys.executable, private_network.__file__, str(notes)]
    try:
        with Watcher(c) as watcher:
            resolves = ("small", "default", "failing", "fetched")
            stage.pants(*remote, "generate-lockfiles", *(f"--resolve={name}" for name in resolves))
            stage.pants("package", "//:image", prefix=network)
            stage.pants(*remote, "--opam-show-build-logs", "package", "//:image")
            stage.pants("package", "//:bad", status=1)
            gone = stage.gate.files / f"archives/md5/{MD5[:2]}/{MD5}"
            gone.unlink()
            stage.pants("package", "//:gone", status=1)
            server.users["debian"] = "other:password"
            stage.pants("generate-lockfiles", "--resolve=small", status=1)
            stage.pants("publish", "//:image")
            stage.pants("publish", "//:image", status=1, REGISTRY_AUTH_FILE=str(tmp_path / "wrong.json"))
            # The container has the variable: it is as long as it should be.
            test = f'test "${{#RUN_SECRET}}" = {len(c["run"])}'
            stage.pants("run", "//:image", "--", "sh", "-c", test)
    finally:
        cache.stop()
    # All were used, or were there to be found.
    assert server.passed("debian") and server.passed("archives") and server.passed("git") and server.passed("tar")
    assert server.passed("proxy")
    # The build came, saw nothing, and reached nobody.
    assert b"--- end" in stage.output
    # One line each: the first connection of each server, which threads of their own write down. Nothing else came.
    assert sorted(notes.read_text().split()) == sorted([private_network.METADATA[0], private_network.LOCAL[0]])
    assert stage.sockets.reached == set() and b"REACHED" not in stage.output

    dist = stage.project.directory / "dist"
    (tmp_path / "output").write_bytes(stage.output)
    layers = unpack_layers(dist / "image/blobs/sha256", tmp_path / "unpacked")
    assert layers >= 4
    cache_home = Path(stage.env["XDG_CACHE_HOME"])
    written = changed_since([cache_home / "pants"], start)
    written += [path for path in changed_since([stage.project.directory], 0) if path.name != ".env"]
    written += changed_since(
        [stage.sandboxes, cache.directory, tmp_path / "unpacked", tmp_path / "registry/storage"], 0
    )
    written += [tmp_path / "output", stage.trace]
    assert len(written) > 100 and watcher.rounds > 100
    assert search(c, written, tmp_path) == []
    assert watcher.found == set()
