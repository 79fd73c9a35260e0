"""What opam's commands may do to a view, and what becomes of it, is the same for root and for a user."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import filelock as filelock  # by now: the user of these tests cannot read this Python's files
import pytest

from opam_sandbox.layer import closed
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.make import Facts, Identity, make_layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import closed as sandbox_closed
from opam_sandbox.sandbox import syscalls
from opam_sandbox.sandbox.namespaces import is_rootless, run_isolated
from opam_sandbox.sandbox.view import View
from tests.unit import conftest
from tests.unit.conftest import add_programs, directory_for_all, make_tar, member, need_namespaces

USER = 47010
SCRIPT = Path(__file__).parents[1] / "support/changes.pl"
ENV = {"PATH": "/bin"}
DIRECTORY, LINK = tarfile.DIRTYPE, tarfile.SYMTYPE
OPAM = {"uid": 1000, "gid": 1000}


@pytest.fixture(scope="module")
def top(root_user: None) -> Iterator[Path]:
    """A directory that every user reaches."""
    need_namespaces()
    with directory_for_all("root-and-user-") as directory:
        yield directory


@pytest.fixture(scope="module")
def layers(top: Path, tiny_root: Path) -> List[Layer]:
    root = top / "root"
    shutil.copytree(tiny_root, root, symlinks=True)
    add_programs(root, ["perl", "chmod", "mkdir"])
    base = root / "base.tar"
    with tarfile.open(base, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, ".", filter=lambda found: None if found.name in ("./base.tar", "./home/opam") else found)
        for name, fields in (
            ("bin/tool", {"mode": 0o755, "content": b"#!/bin/sh\n"}),
            ("etc/passwd", {"content": b"root:x:0:0::/:/bin/sh\n"}),
            ("etc/shadow", {"mode": 0o640, "content": b"root:*:::::::\n"}),
            ("etc/of-root", {"mode": 0o600}),
            ("usr/lib/private-tool", {"mode": 0o744, "content": b"#!/bin/sh\n"}),
            ("usr/lib/shut", {"kind": DIRECTORY, "mode": 0o700}),
            ("usr/lib/shut/file", {}),
            ("srv/half", {"kind": DIRECTORY, "mode": 0o711}),
            ("srv/open", {"kind": DIRECTORY, "mode": 0o1777}),
            ("srv/to-shadow", {"kind": LINK, "linkname": "/etc/shadow"}),
            ("var/log/open", {"mode": 0o666}),
            ("root", {"kind": DIRECTORY, "mode": 0o700}),
            ("root/key", {"mode": 0o644}),
            ("var/tmp", {"kind": DIRECTORY, "mode": 0o1777}),
            ("run/lock", {"kind": DIRECTORY, "mode": 0o1777}),
        ):
            info, content = member(name, **fields)
            archive.addfile(info, io.BytesIO(content))
    lib = "home/opam/.opam/default/lib"
    package = make_tar(
        [
            member("usr/lib/of-deb", content=b"of a .deb"),
            member("usr/lib/private-of-deb", mode=0o600),
            *(member(lib.rsplit("/", number)[0], DIRECTORY, **OPAM) for number in (2, 1, 0)),
            member(f"{lib}/p", DIRECTORY, **OPAM),
            member(f"{lib}/p/file", content=b"x", **OPAM),
            member(f"{lib}/p/other", content=b"y", **OPAM),
        ]
    )
    made = [
        conftest.make_layer(top / "layers/base", base.read_bytes(), "base", "tiny"),
        conftest.make_opam_root(top / "layers/opam-root"),
        conftest.make_layer(top / "layers/package", package),
    ]
    return made


def as_root_and_user(top: Path, name: str, work: Callable[[], int]) -> Tuple[Path, Path]:
    """Call `work` twice, in a directory of root's and in one of a user's; returns both."""
    found = []
    for user in (False, True):
        here = top / f"{name}-{'user' if user else 'root'}"
        here.mkdir()
        child = os.fork()
        if child == 0:
            status = 99
            try:
                if user:
                    os.chown(here, USER, USER)
                    os.setgroups([])
                    os.setresgid(USER, USER, USER)
                    os.setresuid(USER, USER, USER)
                    syscalls.hide_from_others(False)  # as a program that such a user starts
                os.chdir(here)
                status = work()
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0, here
        found.append(here)
    return found[0], found[1]


def build(layers: List[Layer], work: Callable[[View], None]) -> int:
    """Make a package's layer by `work`, here."""

    def inside() -> int:
        def change(view: View) -> Facts:
            work(view)
            return Facts()

        make_layer(Identity("package", "t", "1"), layers, Store(Path("store"), rootless), change)
        return 0

    rootless = is_rootless()
    return run_isolated(inside)


def run(view: View, argv: List[str], user: bool = True) -> None:
    done = view.overlay.run(argv, ENV, view.log, user=user, cwd="/")
    assert done.returncode == 0, view.log_text()


def layer(here: Path) -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads((here / "layer.json").read_text())
    return found


def entries(here: Path) -> Dict[str, Tuple[int, int, int]]:
    """name -> mode, uid, gid of a layer's entries."""
    with tarfile.open(next((here / "blobs/sha256").iterdir())) as archive:
        return {entry.name: (entry.mode, entry.uid, entry.gid) for entry in archive}


def test_the_same_is_refused_and_the_bytes_are_the_same(top: Path, layers: List[Layer]) -> None:
    script = SCRIPT.read_text()
    arm = "arm" if os.uname().machine == "aarch64" else ""

    def work(view: View) -> None:
        run(view, ["perl", "-e", script, arm])

    root, user = as_root_and_user(top, "changes", lambda: build(layers, work))
    of_root, of_user = ((here / "build.log").read_text().splitlines() for here in (root, user))
    assert len(of_root) > 400
    assert [pair for pair in zip(of_root, of_user) if pair[0] != pair[1]] == []
    assert len(of_root) == len(of_user)
    outcomes = dict(line.rsplit(" ", 1) for line in of_root)
    # Some that everything stands on; 30 is EROFS, 13 EACCES, 1 EPERM, 18 EXDEV
    assert outcomes["chmod 4755 /bin/tool"] == "30" and outcomes["open write /etc/passwd"] == "30"
    assert outcomes["open read /etc/shadow"] == outcomes["list /root"] == outcomes["read through link"] == "13"
    assert outcomes["open read /usr/lib/private-tool"] == "ok" and outcomes["exec /usr/lib/private-tool"] == "13"
    assert outcomes["chown 0 0 /home/opam/spare"] == "1" and outcomes["become root"] == "1"
    assert outcomes["file in /tmp"] == outcomes["file in /var/tmp"] == outcomes["file in /home/opam"] == "ok"
    assert outcomes["file in /srv/open"] == outcomes["file in /"] == outcomes["file in /dev"] == "30"
    assert outcomes["chmod device"] == "30" and outcomes["write device"] == outcomes["write stdout"] == "ok"
    assert outcomes["list of a file"] == outcomes["list of a directory"] == "ok"
    assert outcomes["no list of a file"] == outcomes["no list of a directory"] == "ok"
    assert layer(root) == layer(user)
    found = entries(root)
    assert [name for name in found if not name.startswith("home")] == []
    assert found["home/opam/mode-4755"] == (0o4755, 1000, 1000)


def test_what_maintainer_scripts_leave_in_opams_home_is_opams(top: Path, layers: List[Layer]) -> None:
    """For root as well: without privileges there is no other owner. The same for what they leave in /tmp."""
    as_dpkg = (
        "mkdir /home/opam/d && echo x > /home/opam/d/f && chown 0:0 /home/opam/d && echo y > /home/opam/s"
        " && chmod 4755 /home/opam/s && echo z > /tmp/left && chmod 600 /tmp/left && echo > /dev/shm/left; setsid sleep 60 &"
        " echo $! > /etc/pid"
    )
    as_opam = (
        "cat /home/opam/d/f && echo more >> /home/opam/d/f && : > /home/opam/d/g && stat -c %u:%g:%a /home/opam/s"
        " && ls -a /tmp /dev/shm && kill -0 $(cat /etc/pid) 2> /dev/null || echo gone; exit 0"
    )

    def work(view: View) -> None:
        run(view, ["sh", "-c", as_dpkg], user=False)
        run(view, ["sh", "-c", as_opam])

    root, user = as_root_and_user(top, "home", lambda: build(layers, work))
    logs = [(here / "build.log").read_text() for here in (root, user)]
    assert logs[0] == logs[1]
    assert "x\n1000:1000:4755\n/dev/shm:\n.\n..\n\n/tmp:\n.\n..\n" in logs[0] and logs[0].endswith("gone\n")
    assert layer(root) == layer(user)
    assert entries(root)["home/opam/s"] == (0o4755, 1000, 1000)
    assert entries(root)["etc/pid"] == (0o644, 0, 0)


def test_what_a_deb_keeps_to_root_is_hidden(top: Path, layers: List[Layer]) -> None:
    """Of a layer below, and of this build's own depexts; until then, dpkg sees all."""
    as_dpkg = "echo secret > /etc/new && chmod 600 /etc/new && mkdir -m 700 /srv/new && cat /etc/shadow"
    as_opam = "cat /etc/new; cat /usr/lib/private-of-deb; ls /srv/new; ls /srv/half; stat -c %a /etc/new; exit 0"

    def work(view: View) -> None:
        run(view, ["sh", "-c", as_dpkg], user=False)
        run(view, ["sh", "-c", as_opam])

    root, user = as_root_and_user(top, "hidden", lambda: build(layers, work))
    logs = [(here / "build.log").read_text() for here in (root, user)]
    assert logs[0] == logs[1]
    assert logs[0].startswith("root:*:") and logs[0].count("Permission denied") == 4 and "secret" not in logs[0]
    assert layer(root) == layer(user)
    assert entries(root)["etc/new"] == (0o600, 0, 0)


def test_what_the_store_remembers_is_made_again(top: Path, layers: List[Layer]) -> None:
    """A record of a layer's closed files that a power loss has emptied."""
    here = top / "remembers"
    here.mkdir()
    store = Store(here / "store", rootless=False)
    tree = store.get(layers[0])
    expected = set(sandbox_closed.names(tree))
    assert {"etc/shadow", "root", "srv/half", "usr/lib/private-tool"} <= expected
    assert set(closed.names(tree)) == expected
    for content in (b"", b"0\n", (tree.parent / "closed").read_bytes()[:-3]):
        (tree.parent / "closed").write_bytes(content)
        assert set(closed.names(tree)) == expected
    assert set(closed.names(tree)) == expected
