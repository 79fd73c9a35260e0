"""Passwords in URLs are used, and neither shown nor kept."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.downloads.credentials import Place, holds_password, place, places, without_password
from opam_oci.downloads.fetch import Fetched, FetchRequest
from opam_oci.locking.steps import secrets_of
from opam_oci.publishing.destinations import DestinationError
from opam_oci.resolves.lockfile import LockfileError
from opam_oci.resolves.lockfile_reader import read_opam_lock
from opam_oci.resolves.opam_repositories import (
    InvalidRepositoryError,
    OpamRepository,
    OpamRepositoryRequest,
    parse_location,
)
from opam_oci.sandbox import handover
from opam_oci.subsystems.oci_publish import RegistryOptionError, read_registries
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, opam_lock, source_toml
from tests.backend.test_destinations import where
from tests.support.gate import Gate, gate

CONTENT = b"an archive\n"
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.example/a", Place("https://h.example/a")),
        ("https://h.example/@scope/a", Place("https://h.example/@scope/a")),
        ("https://me:pa%40ss@h.example:8/a@b", Place("https://h.example:8/a@b", place("x://me:pa%40ss@y").userinfo)),
        ("HTTPS://token@h.example", Place("HTTPS://h.example", place("x://token@y").userinfo)),
        ("git+https://a:b@c/d", Place("git+https://c/d", place("x://a:b@y").userinfo)),
        ("ssh://git@h.example/a", Place("ssh://git@h.example/a")),
        ("git+ssh://git@h.example/a", Place("git+ssh://git@h.example/a")),
        ("debian:pool/a@b", Place("debian:pool/a@b")),
    ],
)
def test_a_url_and_its_password(url: str, expected: Place) -> None:
    assert place(url) == expected
    assert "pa%40ss" not in repr(place(url)) and "token" not in repr(place(url))


def test_the_header() -> None:
    headers = place("https://me:pa%2Bs%3As@h.example").headers()
    assert base64.b64decode(headers["Authorization"].split()[1]) == b"me:pa+s:s"
    assert headers["Authorization"] not in repr(headers)
    assert place("https://h.example").headers() == {}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://me:secret@h.example/x@y", "see https://h.example/x@y"),
        ("'http://me:se@cr@h.example/x'", "'http://h.example/x'"),
        ("https://t@a/ https://u:v@b", "https://a/ https://b"),
        ("mail a@b", "mail a@b"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_who_holds_a_password() -> None:
    held = ["https://a:b@c", "https://token@c/d", "ftp://a@c", "ssh://a:b@c/d", "git+https://a@c/d"]
    assert [url for url in held if not holds_password(url)] == []
    free = ["https://c/@d", "ssh://git@c/d", "git+ssh://git@c", "debian:pool/a", "https://c/d?x=a@b"]
    assert [url for url in free if holds_password(url)] == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Gate]:
    (tmp_path / "files/private").mkdir(parents=True)
    (tmp_path / "files/private/a.tbz").write_bytes(CONTENT)
    with gate(Gate(tmp_path / "files", "", {"private": "me:pa+ss"})) as state:
        yield state


def test_a_download_with_a_password(rule_runner: RuleRunner, server: Gate, caplog: pytest.LogCaptureFixture) -> None:
    rule_runner.set_options(OPTIONS)
    caplog.set_level("DEBUG")
    url = f"http://me:pa%2Bss@127.0.0.1:{server.port}/private/a.tbz"
    request = FetchRequest(owner="a.1", name="a.tbz", urls=(url,), sha256=SHA, size=len(CONTENT))
    assert "pa%2Bss" not in repr(request)
    assert rule_runner.request(Fetched, [request]).error is None
    assert server.seen == [("private", True)]
    assert "pa%2Bss" not in caplog.text


def test_a_download_with_a_wrong_password(rule_runner: RuleRunner, server: Gate) -> None:
    rule_runner.set_options(OPTIONS)
    url = f"http://me:hunter2@127.0.0.1:{server.port}/private/a.tbz"
    request = FetchRequest(owner="a.1", name="a.tbz", urls=(url,), sha256=SHA, size=len(CONTENT))
    error = rule_runner.request(Fetched, [request]).error
    assert error is not None and f"http://127.0.0.1:{server.port}/private/a.tbz: " in error and "401" in error
    assert "hunter2" not in error and base64.b64encode(b"me:hunter2").decode() not in error


def test_what_a_process_is_handed() -> None:
    env = {"http_proxy": "http://me:pw@proxy:1", "https_proxy": "http://proxy:1", "HTTP_PROXY": "me:pw@proxy:1"}
    assert secrets_of(env, places(["https://a/b", "https://t:u@c/d"])) == {
        "env": {"http_proxy": "http://me:pw@proxy:1", "HTTP_PROXY": "me:pw@proxy:1"},
        "userinfo": {"https://c/d": "t:u"},
    }
    assert secrets_of({"https_proxy": "http://proxy:1"}, places(["https://a/b"])) == {}


def test_handed_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are this user's alone as long as they are there, and gone afterwards, those of a killed process too."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    left = handover.private_directory() / "4194305-dead"  # no process has this number
    left.mkdir()
    (left / "secrets.json").write_text("secret")
    with handover.handed_over({"secrets.json": "{}"}) as directory:
        assert Path(directory).parent == tmp_path / f"opam-oci-secrets-{os.geteuid()}"
        assert Path(directory).stat().st_mode & 0o777 == 0o700
        assert Path(directory).parent.stat().st_mode & 0o777 == 0o700
        assert (Path(directory) / "secrets.json").stat().st_mode & 0o777 == 0o600
        assert not left.exists()
    assert list(handover.private_directory().iterdir()) == []


def test_handed_over_under_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once: who comes later is not disturbed by the end of the other one."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    first, second = handover.handed_over({"a": "1"}, "git-x"), handover.handed_over({"a": "2"}, "git-x")
    path = Path(first.__enter__())
    assert (path / "a").read_text() == "1"
    assert Path(second.__enter__()) == path
    first.__exit__(None, None, None)
    assert (path / "a").read_text() == "2"
    second.__exit__(None, None, None)
    assert list(handover.private_directory().iterdir()) == []


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / f"opam-oci-secrets-{os.geteuid()}").mkdir(mode=0o777)
    (tmp_path / f"opam-oci-secrets-{os.geteuid()}").chmod(0o777)
    assert handover.private_directory().parent != tmp_path


def test_a_git_repository_with_a_password(rule_runner: RuleRunner, server: Gate, tmp_path: Path) -> None:
    """It is right, and it is wrong; in neither case is it in the process."""
    work, served = tmp_path / "work", server.files / "private/repo.git"
    (work / "packages").mkdir(parents=True)
    (work / "packages/a").write_text("a")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for command in (
        ["init", "--quiet", str(work)],
        ["-C", str(work), "add", "."],
        ["-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a"],
        ["clone", "--quiet", "--bare", str(work), str(served)],
        ["-C", str(served), "update-server-info"],
    ):
        subprocess.run(["git", *command], check=True, env=env)
    done = subprocess.run(["git", "-C", str(work), "rev-parse", "HEAD"], env=env, stdout=subprocess.PIPE, text=True)
    commit, at = done.stdout.strip(), f"127.0.0.1:{server.port}/private/repo.git"
    rule_runner.set_options(OPTIONS, env={**env})
    wrong = OpamRepositoryRequest("up", f"git+http://me:hunter2@{at}#{commit}")
    with pytest.raises(ExecutionError) as raised:
        rule_runner.request(OpamRepository, [wrong])
    assert "Authentication failed" in str(raised.value) and "hunter2" not in str(raised.value)
    rule_runner.set_options(OPTIONS, env={**env})  # another run
    right = OpamRepositoryRequest("up", f"git+http://me:pa%2Bss@{at}#{commit}")
    assert rule_runner.request(OpamRepository, [right]).fingerprint == f"git:{commit}"
    assert list(handover.private_directory().iterdir()) == []


@pytest.mark.parametrize(
    "location",
    [
        "https://me:hunter2@h.example/a.tar",
        "https://me:hunter2@h.example/a.tar#sha256=1&size=2",
        "git+https://me:hunter2@h.example/a#main",
        f"git+ssh://me:hunter2@h.example/a#{'1' * 40}",
    ],
)
def test_locations_in_errors(location: str) -> None:
    with pytest.raises(InvalidRepositoryError) as raised:
        parse_location("up", location)
    assert "hunter2" not in str(raised.value) and "h.example" in str(raised.value)


def test_locations_are_not_shown() -> None:
    location = f"git+https://me:hunter2@h.example/a#{'1' * 40}"
    assert "hunter2" not in repr(parse_location("up", location)) + repr(OpamRepositoryRequest("up", location))


@pytest.mark.parametrize("key", ["source", "source_out_of_reach"])
def test_a_lockfile_with_a_password(key: str) -> None:
    """Everybody reads it who has the lockfile or the image: it is refused, and not shown."""
    source = source_toml(["https://me:hunter2@h.example/a.tbz"], "ab" * 32, 3)
    if key != "source":
        source = (
            '[[package.source_out_of_reach]]\nname = ""\nurls = ["https://me:hunter2@h.example/a"]\nchecksums = []\n'
        )
    with pytest.raises(LockfileError) as raised:
        read_opam_lock("l", "default", opam_lock(Pkg("a", extra=source)).encode())
    assert "`urls` holds a user or a password" in str(raised.value) and "hunter2" not in str(raised.value)


def test_registries_take_no_password() -> None:
    option: Any = {"r": {"address": "me:hunter2@registry.example/team"}}
    with pytest.raises(RegistryOptionError) as raised:
        read_registries(option)
    assert "`skopeo login`" in str(raised.value) and "hunter2" not in str(raised.value)
    with pytest.raises(DestinationError) as wrong:
        where("me:hunter2@registry.example/team")
    assert "`skopeo login`" in str(wrong.value) and "hunter2" not in str(wrong.value)
    assert read_registries({"r": {"address": "oci:/srv/a@b"}})["r"].address == "oci:/srv/a@b"


def test_the_file_for_the_tool() -> None:
    """It is what the tool takes."""
    from opam_sandbox.locking.secrets import SecretsFile
    from opam_sandbox.request import check

    value = secrets_of({"http_proxy": "http://me:pw@proxy:1"}, places(["https://t:u@c/d"]))
    check(json.loads(json.dumps(value)), SecretsFile, "secrets")
