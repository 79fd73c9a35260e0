"""`pants test` on `oci_image_test` targets: the image of hello passes each kind of check, and fails each."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from typing import Iterator

import pytest

from tests.e2e.conftest import ROOT, Layout, Pants

WRONG = """
oci_image_test(
    name="wrong",
    image="images:hello",
    config={
        "cmd": ["ocaml"],
        "entrypoint": ["sh"],
        "env": {"OPAM_SWITCH_PREFIX": "/", "PATH": None, "HOME": {"matches": "^/root"}},
        "exposed_ports": ["80"],
        "labels": {"version": "1"},
        "user": "root",
        "workdir": "/",
    },
    files={
        "/home/opam/.opam/default/bin/ocamlfind": {"type": "directory"},
        "/etc/passwd": {"contains": "^guest:"},
        "/etc/group": {"mode": "0600", "owner": "opam"},
        "/bin": {"exists": False},
        "/etc/hostname": {"size": 1, "sha256": "%s"},
        "/no/such/file": {},
    },
    users={"opam": {"uid": 0}, "guest": {}},
    commands=[
        {"argv": ["true"], "exit_code": 1},
        {"argv": ["echo", "this"], "stdout": "^that$"},
        {"argv": ["sleep", "60"], "timeout": 1},
        {"argv": ["true"], "user": "guest"},
    ],
    max_layers=1,
    max_size="1MiB",
    max_unpacked_size="1MiB",
)
""" % ("a" * 64)


@pytest.fixture
def wrong(hello: Layout) -> Iterator[str]:
    """A target whose checks all fail."""
    directory = ROOT / "images-wrong"
    directory.mkdir()
    (directory / "BUILD").write_text(WRONG)
    yield "images-wrong:wrong"
    shutil.rmtree(directory)


def test_the_image_of_hello(pants: Pants, hello: Layout) -> None:
    """As images/BUILD says it should be; and not again while nothing changes."""
    done = pants.run("test", "--output=all", "--report", "images:hello-test")
    assert "✓ images:hello-test succeeded" in done.stderr and "all 22 checks passed" in done.stderr
    again = pants.run("test", "images:hello-test").stderr
    assert "memoized" in again or "cached" in again


def test_each_check_fails(pants: Pants, wrong: str) -> None:
    done = pants.run("test", "--report", wrong, check=False)
    assert done.returncode == 1 and "✕ images-wrong:wrong failed" in done.stderr
    assert "24 of 24 checks failed" in done.stderr, done.stderr
    cases = list(ElementTree.parse(ROOT / "dist/test/reports/images-wrong.wrong.xml").getroot().iter("testcase"))
    assert len(cases) == 24 and all(case.find("failure") is not None for case in cases)
    for told in (
        "its owner is 0 (root), but should be opam",
        "its exit status is 0, but should be 1",
        "it took longer than 1 seconds, and was ended",
        "the image's user 'guest' is not in its /etc/passwd",
    ):
        assert told in done.stderr
