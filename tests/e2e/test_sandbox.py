"""The sandbox of one build, with a real base: no network, no root needed, the same bytes for everyone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import pytest

from opam_sandbox.files import file_sha256
from tests.e2e.conftest import ROOT, Layout, layer_directories, tool
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
    program_path: Path,
    work: Path,
    layers: Sequence[Path],
    opam: str,
    prefix: Sequence[str] = (),
    room: Optional[int] = None,
    debs: Sequence[Dict[str, Any]] = (),
    name: str = "t",
) -> "subprocess.CompletedProcess[str]":
    """Run the tool's `build` for a package <name>.1 in `work`, as whoever `prefix` makes of it.

    room: the bytes of memory that it may take for its scratch files, if not what this machine gives. debs: its depexts."""
    (work / "store").mkdir(parents=True)
    request: Dict[str, Any] = {
        "store": "store",
        "layers": [str(layer) for layer in layers],
        "package": {"name": name, "version": "1", "opam": opam, "files": [], "sources": [], "debs": list(debs)},
    }
    (work / "request.json").write_text(json.dumps(request))
    if prefix:
        for path in (work, work / "store"):
            os.chown(path, USER, USER)
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(program_path)}
    program = ["-m", "opam_sandbox.building"]
    if room is not None:
        patch = (
            "from opam_sandbox.building import cli; from opam_sandbox.sandbox import memory; "
            f"memory.room = lambda *_: {room}; raise SystemExit(cli.main())"
        )
        program = ["-c", patch]
    argv = [*prefix, "python3", "-sB", *program, "build", "request.json"]
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


# Neither in the order of their names nor in its reverse.
MAKE_FILES = "mkdir d && for n in c _ a .h B d; do touch d/$n; done"
BUILD = INSTALL + 'build: [["sh" "-c" "%s"]]\n'


@pytest.mark.parametrize("prefix", [(), AS_USER], ids=["root", "user"])
def test_in_memory_or_on_disk_the_same_bytes(
    tool_path: Path, layers: List[Path], readable: Path, prefix: Sequence[str]
) -> None:
    opam = BUILD % ("cp made %{lib}%/", f"stat -f -c 'on %T' . && {MAKE_FILES} && ls -Ua d > made")
    found = {}
    for name, room in (("memory", 1 << 24), ("disk", 0)):
        done = build(tool_path, readable / name, layers, opam, prefix, room)
        assert done.returncode == 0, done.stderr
        assert ("on tmpfs" in (readable / name / "build.log").read_text()) is (name == "memory")
        found[name] = json.loads((readable / name / "layer.json").read_text())
    assert found["memory"] == found["disk"]


def test_directories_are_listed_by_name(tool_path: Path, layers: List[Path], tmp_path: Path) -> None:
    """By whatever lists them, once more from the start, and from a place in between."""
    perl = "opendir D, shift; @a = readdir D; rewinddir D; @b = readdir D; print qq(all @a again @b); "
    perl += "rewinddir D; readdir D for 1 .. 3; $p = telldir D; @c = readdir D; seekdir D, $p; @d = readdir D; "
    perl += "print qq( from @c again @d end); closedir D"
    opam = BUILD % ("true", f"{MAKE_FILES} && perl -e '{perl}' d && ls -U d | tr '\\\\n' ' '")
    done = build(tool_path, tmp_path / "w", layers, opam)
    log = (tmp_path / "w/build.log").read_text()
    assert done.returncode == 0, log
    names = ". .. .h B _ a c d"
    assert f"all {names} again {names} from B _ a c d again B _ a c d end" in log
    assert "B _ a c d " in log.partition(" end")[2]


@pytest.mark.parametrize("after", ["", "|| (rm made && false)"], ids=["full", "emptied"])
def test_what_does_not_fit_into_memory_is_built_on_disk(
    tool_path: Path, layers: List[Path], tmp_path: Path, after: str
) -> None:
    """Also if what ran out of room has removed what it wrote; nothing is left of the first try."""
    opam = BUILD % ("cp made %{lib}%/", f"stat -f -c 'on %T' . && head -c 3M /dev/zero > made {after}")
    small, large = (build(tool_path, tmp_path / str(room), layers, opam, room=room) for room in (1 << 20, 1 << 24))
    assert (small.returncode, large.returncode) == (0, 0), small.stderr + large.stderr
    assert "on tmpfs" in (tmp_path / str(1 << 24) / "build.log").read_text()
    assert "on tmpfs" not in (tmp_path / str(1 << 20) / "build.log").read_text()
    first, second = (json.loads((tmp_path / str(room) / "layer.json").read_text()) for room in (1 << 20, 1 << 24))
    assert first == second
    assert not (tmp_path / str(1 << 20) / "scratch").exists()


def test_a_failure_in_memory_is_none_for_want_of_room(tool_path: Path, layers: List[Path], tmp_path: Path) -> None:
    """It is not tried again."""
    done = build(tool_path, tmp_path / "w", layers, BUILD % ("true", "echo once >&2; exit 3"), room=1 << 24)
    assert done.returncode == 1 and "opam package t.1 failed to build" in done.stderr
    assert "once" in (tmp_path / "w/build.log").read_text()


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


def account_deb(directory: Path, account: str) -> Path:
    """A .deb whose maintainer script adds a system account."""
    control = directory / account / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        f"Package: {account}\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: t\n"
    )
    (control / "postinst").write_text(f"#!/bin/sh\nset -e\nuseradd --system --user-group {account}\n")
    (control / "postinst").chmod(0o755)
    target = directory / f"{account}.deb"
    tool("dpkg-deb", "--root-owner-group", "--build", str(control.parent), str(target))
    return target


def test_accounts_of_unrelated_packages_are_all_in_the_image(
    tool_path: Path, layers: List[Path], tmp_path: Path
) -> None:
    """Both are built where neither account is, and are given the same number; the image's state has both, apart."""
    built = []
    for account in ("alpha", "beta"):
        deb = account_deb(tmp_path, account)
        entry = {"name": account, "version": "1", "architecture": "all", "file": str(deb)}
        entry.update(sha256=file_sha256(deb)[0], size=deb.stat().st_size)  # type: ignore[call-overload]
        done = build(tool_path, tmp_path / f"with-{account}", layers, INSTALL % "true", debs=[entry], name=account)
        assert done.returncode == 0, done.stderr
        built.append(tmp_path / f"with-{account}")
    work = tmp_path / "state"
    (work / "store").mkdir(parents=True)
    request = {"store": "store", "layers": [str(layer) for layer in (*layers, *built)], "packages": [], "roots": []}
    (work / "request.json").write_text(json.dumps(request))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tool_path)}
    argv = ["python3", "-sB", "-m", "opam_sandbox.imaging"]
    tool(*argv, "state", "request.json", cwd=work, env=env)
    blob = next((work / "blobs/sha256").iterdir())
    found = {}
    for name in ("passwd", "group", "shadow"):
        lines = tool("tar", "-xzOf", str(blob), f"etc/{name}").stdout.splitlines()
        found[name] = {line.split(":")[0]: line.split(":") for line in lines}
        assert {"root", "opam", "alpha", "beta"} <= set(found[name])
    for name in ("passwd", "group"):
        assert found[name]["alpha"][2] != found[name]["beta"][2]
    for account in ("alpha", "beta"):
        assert found["passwd"][account][3] == found["group"][account][2]
    assert "/shadow" in tool("tar", "-tzf", str(blob)).stdout
    assert "-rw-r----- 0/42 " in tool("tar", "-tvzf", str(blob), "etc/shadow").stdout, (
        "of the group shadow, as Debian has it"
    )
