"""Passwords of mirrors and proxies are used by the tool, and are in no message and in no file that stays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from opam_sandbox import passwords
from opam_sandbox.errors import ToolError
from opam_sandbox.locking import apt_lists, secrets
from opam_sandbox.locking.secrets import Secrets
from opam_sandbox.locking.sources import OutOfReach, SourceFinder
from opam_sandbox.locking.wanted_sources import Wanted, wanted_sources
from opam_sandbox.opam import opamfile
from opam_sandbox.publishing import skopeo
from opam_sandbox.running import engine
from opam_sandbox.running.variables import variables
from tests.support.gate import Gate, gate

CONTENT = b"an archive\n"
MD5 = hashlib.md5(CONTENT).hexdigest()
PASSWORD, IN_URL = "hunter+2:x", "hunter%2B2%3Ax"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Gate]:
    file = tmp_path / "files/private" / f"md5/{MD5[:2]}/{MD5}"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    with gate(Gate(tmp_path / "files", "", {"private": f"me:{PASSWORD}"}, f"me:{PASSWORD}")) as state:
        yield state


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://me:{IN_URL}@h/a: 401", "https://h/a: 401"),
        (f"nonnumeric port: '{PASSWORD}@h'", "nonnumeric port: '***@h'"),
        (f"me:{IN_URL} {IN_URL}", "*** ***"),
        ("https://h/@a mail@b", "https://h/@a mail@b"),
    ],
)
def test_what_is_hidden(text: str, shown: str) -> None:
    assert passwords.hide(text, [f"me:{IN_URL}"]) == shown


def test_short_ones_spoil_no_words() -> None:
    assert passwords.hide("a word", ["a:o"]) == "a word"


@pytest.mark.parametrize(
    ("value", "found"),
    [("http://me:p@h:1/", "me:p"), ("me:p@h:1", "me:p"), ("http://h:1/a@b", ""), ("h:1", ""), ("socks5://t@h", "t")],
)
def test_the_password_of_a_proxy(value: str, found: str) -> None:
    assert passwords.userinfo(value) == found


def test_a_mirror_with_a_password(server: Gate) -> None:
    mirror = f"http://127.0.0.1:{server.port}/private"
    known = Secrets({mirror: f"me:{IN_URL}"})
    wanted = Wanted("", ("http://127.0.0.1:9/a",), (("md5", MD5),))
    found = SourceFinder([], [], [mirror], secrets=known).lock("a.1", wanted)
    assert (found.urls, found.size) == (("http://127.0.0.1:9/a",), len(CONTENT))
    assert server.seen == [("private", True)]


def test_a_mirror_with_a_wrong_password(server: Gate) -> None:
    mirror = f"http://127.0.0.1:{server.port}/private"
    with pytest.raises(OutOfReach) as raised:
        SourceFinder([], [], [mirror], secrets=Secrets({mirror: "me:wrong-password"})).lock(
            "a.1", Wanted("", ("http://127.0.0.1:9/a",), (("md5", MD5),))
        )
    assert "Unauthorized" in str(raised.value) and "wrong-password" not in str(raised.value)


def test_another_host_is_told_nothing(server: Gate) -> None:
    request = Secrets({"http://h/a": "me:pw"}).request("http://h/a/b")
    assert request.get_header("Authorization") and "Authorization" not in request.headers
    assert Secrets({"http://h/a": "me:pw"}).request("http://h/ab").get_header("Authorization") is None


def test_a_url_that_is_none(tmp_path: Path) -> None:
    """http.client's own error for it is no OSError."""
    with pytest.raises(OutOfReach) as raised:
        SourceFinder([], [], ["http://h:port/x"]).lock("a.1", Wanted("", ("http://127.0.0.1:9/a",), (("md5", MD5),)))
    assert "nonnumeric port" in str(raised.value)


@pytest.mark.parametrize("where", ["src", "mirrors"])
def test_an_opam_file_with_a_password(where: str) -> None:
    urls = {"src": "https://h/a", "mirrors": "https://h/b"}
    urls[where] = f"https://me:{IN_URL}@h/c"
    text = f'url {{ src: "{urls["src"]}" mirrors: "{urls["mirrors"]}" checksum: "md5={MD5}" }}'
    with pytest.raises(ToolError) as raised:
        wanted_sources(opamfile.parse(text, "a"), "a.1")
    assert "a.1: its opam file has a URL with a user or a password" in str(raised.value)
    assert IN_URL not in str(raised.value)


def test_the_file_of_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "")
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps({"env": {"http_proxy": f"http://me:{IN_URL}@h:1"}, "userinfo": {"http://h/a/": "t:u"}}))
    known = secrets.take(str(file))
    assert os.environ["http_proxy"] == f"http://me:{IN_URL}@h:1"
    assert (known.url("http://h/a/b"), known.url("http://h/b")) == ("http://t:u@h/a/b", "http://h/b")
    assert known.hide(f"x {PASSWORD} y") == "x *** y"
    assert secrets.take("").url("http://h/a") == "http://h/a"
    with pytest.raises(ToolError, match="by a remote worker"):
        secrets.take(str(tmp_path / "gone"))


def test_apt_with_a_wrong_password(server: Gate, tmp_path: Path) -> None:
    """apt itself runs. It asks with the password, and neither what it says nor what it keeps has it."""
    mirror = f"http://127.0.0.1:{server.port}/private"
    for known in (Secrets({mirror: "me:wrong-password"}), Secrets({mirror: f"me:{IN_URL}"})):
        with pytest.raises(ToolError) as raised:
            apt_lists.update(tmp_path / "apt", [mirror], ["trixie"], "amd64", known)
        assert mirror in str(raised.value)
        assert "wrong-password" not in str(raised.value) and "hunter" not in str(raised.value)
    assert ("private", True) in server.seen and ("private", False) in server.seen
    kept = b"".join(path.read_bytes() for path in (tmp_path / "apt").rglob("*") if path.is_file())
    assert b"wrong-password" not in kept and b"hunter" not in kept and mirror.encode() in kept


def test_skopeo_with_a_proxy_that_it_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the whole address then."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2^%zz@proxy.example")
    program = tmp_path / "skopeo"
    program.write_text('#!/bin/sh\necho "level=fatal msg=\\"invalid proxy $HTTPS_PROXY: hunter2^%zz\\"" >&2\nexit 1\n')
    program.chmod(0o755)
    with pytest.raises(ToolError) as raised:
        skopeo.push(str(program), tmp_path, "sha256:x", skopeo.Destination("r.example/a:b", True, ""), 0)
    assert "invalid proxy http://proxy.example: ***" in str(raised.value)


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPAM_OCI_RUN_B", "from=outside")
    assert variables(["A=1=2", "B", "C"]) == {"A": "1=2", "B": "from=outside", "C": ""}


def test_an_engine_gets_variables_in_its_environment(tmp_path: Path) -> None:
    """Not as arguments, which everybody may read. What the engine itself has is left to it."""
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\necho "$@"; env\n')
    program.chmod(0o755)
    script = (
        "from pathlib import Path\nfrom opam_sandbox.running import engine\n"
        "engine.load = lambda *_: ['image:a']\n"
        f"engine.run_in_engine({{'runtime': {str(program)!r}, 'engine_args': [], 'network': 'host', 'run_args': [],"
        " 'env': ['TOKEN', 'HOME', 'SAME'], 'volumes': []}, Path('.'), ['sh'])\n"
    )
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "/own",
        "SAME": "1",
        "PYTHONPATH": os.path.dirname(engine.__file__) + "/../..",
    }
    given = {"OPAM_OCI_RUN_TOKEN": "hunter2", "OPAM_OCI_RUN_HOME": "/other", "OPAM_OCI_RUN_SAME": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**env, **given}, stdout=subprocess.PIPE, text=True, check=True
    )
    arguments, *environment = done.stdout.splitlines()
    assert arguments == "run --rm --interactive --env=TOKEN --env=HOME=/other --env=SAME image:a sh"
    assert {"TOKEN=hunter2", "HOME=/own", "SAME=1"} <= set(environment)
    assert not any(line.startswith("OPAM_OCI_RUN_") for line in environment)
