"""The sandbox of one build, with a real base: no network, no root needed, the same bytes for everyone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest

from tests.e2e.conftest import ROOT, Layout, layer_directories
from tests.support.sandbox_tool import copy_tool

USER = 12345

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="compares root with a user: needs root")


@pytest.fixture(scope="module")
def tool_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool and filelock where every user can read them, as they are in a process's sandbox."""
    target = tmp_path_factory.mktemp("tool")
    copy_tool(target)
    for path in (target.parent, target, *target.rglob("*")):
        os.chmod(path, 0o755)
    return target


@pytest.fixture(scope="module")
def layers(hello: Layout, tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    target = tmp_path_factory.mktemp("layers")
    os.chmod(target.parent, 0o755)
    os.chmod(target, 0o755)
    return layer_directories(hello, target)


def build(
    tool: Path, work: Path, layers: Sequence[Path], opam: str, prefix: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run the tool's `build` for a package t.1 in `work`, as whoever `prefix` makes of it."""
    (work / "store").mkdir(parents=True)
    request: Dict[str, Any] = {
        "store": "store",
        "layers": [str(layer) for layer in layers],
        "package": {"name": "t", "version": "1", "opam": opam, "files": [], "sources": [], "debs": []},
    }
    (work / "request.json").write_text(json.dumps(request))
    if prefix:
        for path in (work, work / "store"):
            os.chown(path, USER, USER)
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(tool)}
    argv = [*prefix, "python3", "-sB", "-m", "opam_sandbox", "build", "request.json"]
    return subprocess.run(argv, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def readable(tmp_path: Path) -> Path:
    """A directory that the user can reach."""
    # pytest's directories are its user's alone. What holds them, such as /tmp, everybody can enter.
    for path in (tmp_path, *tmp_path.parents):
        if "pytest-of-" in str(path):
            os.chmod(path, 0o755)
    return tmp_path


INSTALL = 'opam-version: "2.0"\ninstall: [["sh" "-c" "%s"]]\n'
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]


def test_without_root_the_same_bytes(tool_path: Path, layers: List[Path], readable: Path) -> None:
    """The same layer as root makes, owners and modes included; the user's own id is in none of it."""
    opam = (
        INSTALL % "mkdir %{lib}%/t && id -u > %{lib}%/t/uid && ln %{lib}%/t/uid %{lib}%/t/again && chmod 2755 %{lib}%/t"
    )
    as_root = build(tool_path, readable / "root", layers, opam)
    assert as_root.returncode == 0, as_root.stderr
    as_user = build(tool_path, readable / "user", layers, opam, AS_USER)
    assert as_user.returncode == 0, as_user.stderr
    first, second = (json.loads((readable / name / "layer.json").read_text()) for name in ("root", "user"))
    assert first == second
    listed = subprocess.run(
        ["tar", "-tvzf", str(next((readable / "user/blobs/sha256").iterdir()))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert "1000/1000" in listed and str(USER) not in listed


def test_the_network_is_out_of_reach(tool_path: Path, layers: List[Path], tmp_path: Path) -> None:
    """A package that wants it fails, and its log says why."""
    done = build(tool_path, tmp_path / "w", layers, INSTALL % "bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'")
    assert done.returncode == 1 and "opam package t.1 failed to build" in done.stderr
    assert "unreachable" in (tmp_path / "w/build.log").read_text()
    assert not (tmp_path / "w/layer.json").exists()


def test_nothing_of_the_host_is_readable(tool_path: Path, layers: List[Path], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    done = build(
        tool_path, tmp_path / "w", layers, INSTALL % f"! cat {secret} && ! cat {ROOT}/pants.toml && ! ls /root/* /work"
    )
    assert done.returncode == 0, (tmp_path / "w/build.log").read_text()


def test_no_user_namespaces_is_said(tool_path: Path, layers: List[Path], readable: Path) -> None:
    """In a namespace in which no further user namespace may be made, as on hardened machines."""
    limit = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all"
    prefix = ["unshare", "--user", f"--map-user={USER}", "--keep-caps", "sh", "-c", f'{limit} "$@"', "sh"]
    done = build(tool_path, readable / "w", layers, INSTALL % "true", prefix)
    assert done.returncode == 1
    assert "namespaces" in done.stderr and "sysctl" in done.stderr and "Traceback" not in done.stderr
