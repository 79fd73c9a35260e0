"""test: opam builds a package with its tests; what it prints is this process's output, and nothing is kept."""

from __future__ import annotations

import os
import pty as pty  # by now: the user of these tests cannot read this Python's files
import select as select
import shutil
import signal as signal
import termios as termios
import tty as tty
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import filelock as filelock
import pytest

from opam_sandbox.building import test as package_tests
from opam_sandbox.layer.description import Layer
from opam_sandbox.sandbox import memory
from tests.support.child import start_child
from tests.unit.conftest import (
    add_programs,
    build_request,
    directory_for_all,
    make_base_layer,
    make_layer,
    make_tar,
    member,
    need_namespaces,
)  # fmt: skip

USER = 47012
OPAM = """#!/bin/sh
echo "$@"
cat /home/opam/.opam/repo/default/packages/t/t.1/opam
echo written > /home/opam/.opam/default/written || exit 8
[ ! -e /home/opam/.opam/repo/default/packages/t/t.1/files/failing ] || { echo 'test 3 failed'; exit 31; }
"""


@pytest.fixture(scope="module")
def top(root_user: None) -> Iterator[Path]:
    """A directory that every user reaches."""
    need_namespaces()
    with directory_for_all("tests-") as directory:
        yield directory


@pytest.fixture(scope="module")
def layers(top: Path, tiny_root: Path) -> List[Layer]:
    copy = top / "root"
    shutil.copytree(tiny_root, copy, symlinks=True)
    add_programs(copy, ["cat"])
    opam = {"uid": 1000, "gid": 1000}
    home = [member(name, b"5", **opam) for name in ("home", "home/opam", "home/opam/.opam", "home/opam/.opam/default")]
    return [
        make_base_layer(top / "base", copy, {"opam": OPAM}),
        make_layer(top / "opam", make_tar(home), "opam-root", ""),
    ]


@pytest.fixture(params=["root", "user"])
def here(request: Any, top: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(memory, "room_for_one", lambda claimed=0: 1 << 26)
    path = top / f"{request.param}-{os.urandom(4).hex()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def run(here: Path, layers: List[Layer], *files: str, **fields: Any) -> Tuple[int, str, str]:
    """Exit status, standard output and errors."""
    is_user = here.name.startswith("user")
    store = here.parent / ("store-user" if is_user else "store-root")
    store.mkdir(mode=0o700, exist_ok=True)
    request = {**build_request(store, layers), **fields}
    request["package"]["files"] = [{"path": name, "content": ""} for name in files]
    if is_user:
        for path in (here, store):
            os.chown(path, USER, USER)
    streams = [os.open("/dev/null", os.O_RDONLY)]
    streams += [os.open(here / name, os.O_RDWR | os.O_CREAT, 0o644) for name in ("out", "err")]
    child = start_child(lambda: package_tests.run(request, 1), here, streams, USER if is_user else None)
    status = os.waitpid(child, 0)[1]
    for descriptor in streams:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(status), (here / "out").read_text(), (here / "err").read_text()


def test_tests_that_pass(here: Path, layers: List[Layer]) -> None:
    status, out, err = run(here, layers)
    assert (status, err) == (0, "")
    assert out.startswith("install --with-test --yes ") and out.count("opam-version") == 1
    # There is no layer, and nothing that was written.
    assert not (here / "layer.json").exists() and not (here / "scratch").exists()
    store = here.parent / ("store-user" if here.name.startswith("user") else "store-root")
    assert not list(store.rglob("written"))


def test_tests_that_fail(here: Path, layers: List[Layer]) -> None:
    status, out, err = run(here, layers, "failing")
    assert status == 1 and out.endswith("test 3 failed\n")
    assert err == "error: t.1 does not pass its tests, or does not build with them (opam's exit status 31)\n"
    # `opam-log` would show them as a build that failed.
    store = here.parent / ("store-user" if here.name.startswith("user") else "store-root")
    assert not (store / "failed").exists()


def test_live(here: Path, layers: List[Layer]) -> None:
    """Once, not in the log and again at the end."""
    status, out, _ = run(here, layers, live=True)
    assert status == 0 and out.count("--with-test") == 1


def test_files_of_the_monorepo(here: Path, layers: List[Layer]) -> None:
    (here / "tree").mkdir()
    (here / "tree/a").write_bytes(b"b")
    sha256 = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
    out = run(here, layers, tree=[{"path": "a", "sha256": sha256, "executable": False}])[1]
    assert out.count("url {") == 1 and "source.tar.gz" in out
