"""cli and requests: a caller's mistake is one message and exit status 2, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opam_sandbox.building import cli as building
from opam_sandbox.building.requests import BuildRequest
from opam_sandbox.cli import answered
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.imaging import cli as imaging
from opam_sandbox.layer.description import read_layer
from opam_sandbox.locking import cli as locking
from opam_sandbox.opam.package import OpamPackage, read_package
from opam_sandbox.request import check, safe_path
from opam_sandbox.running.requests import RunRequest
from tests.unit.conftest import REPOSITORY, make_layer, make_tar


def tool(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-sB", "-m", "opam_sandbox.building", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.fspath(REPOSITORY / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def test_unknown_command(tmp_path: Path) -> None:
    done = tool(tmp_path, "make-coffee", "request.json")
    assert done.returncode == 2
    assert "make-coffee" in done.stderr and "Traceback" not in done.stderr


def test_help_names_every_command(tmp_path: Path) -> None:
    done = tool(tmp_path, "--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in building.COMMANDS)


CLIS = {command: part for part in (building, imaging, locking) for command in part.COMMANDS}


def main(command: str) -> int:
    """The exit status of a command with the request in request.json."""
    return CLIS[command].main([command, "request.json"])


def run(capfd: "pytest.CaptureFixture[str]", command: str, text: str) -> str:
    """The one message of a request that is not understood."""
    Path("request.json").write_text(text)
    assert main(command) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", sorted(CLIS))
@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"x"', "{}", '{"layers": 5, "debs": 5, "requirements": 5, "suite": 5}', "[" * 100_000],
)
def test_malformed_requests(capfd: "pytest.CaptureFixture[str]", command: str, text: str) -> None:
    """Every command: no JSON, JSON of another kind, fields that lack or have a wrong type."""
    assert "request.json" in run(capfd, command, text)


def test_no_request(capfd: "pytest.CaptureFixture[str]") -> None:
    assert building.main(["build", "absent.json"]) == 2
    assert "absent.json" in capfd.readouterr().err


def test_bytes_that_are_no_text(capfd: "pytest.CaptureFixture[str]") -> None:
    Path("request.json").write_bytes(b'{"layers": ["\xff"]}')
    assert main("build") == 2
    assert capfd.readouterr().err.startswith("error: request.json: ")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RequestError("a field"), 2, "a field"),
        (ToolError("a layer"), 1, "a layer"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/file"),
            1,
            r"/a/file: Permission denied \(cli\.py, line \d+\)",
        ),
    ],
)
def test_errors_are_one_message(capfd: "pytest.CaptureFixture[str]", error: Exception, status: int, said: str) -> None:
    def answer() -> int:
        raise error

    assert answered(answer) == status
    out, err = capfd.readouterr()
    assert out == "" and re.fullmatch(f"error: {said}\n", err), err


def test_what_is_no_error_of_callers_or_machines(capfd: "pytest.CaptureFixture[str]") -> None:
    """The exit status is the command's own, and a mistake of the program keeps its traceback."""
    assert answered(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        answered(lambda: 1 // 0)
    assert capfd.readouterr() == ("", "")


PACKAGE: Dict[str, Any] = {"name": "lwt", "version": "5.6.1", "opam": "", "files": [], "sources": [], "debs": []}
SOURCE: Dict[str, Any] = {"name": "", "sha256": "00", "size": 1, "file": "sources/00"}


def as_read(**change: Any) -> OpamPackage:
    """The package of a build request, through the check that its reader makes."""
    request: Any = {"store": "s", "layers": [], "package": {**PACKAGE, **change}}
    check(request, BuildRequest, "r")
    return read_package(request["package"])


def test_a_package_is_read() -> None:
    package = as_read(files=[{"path": "a/b", "content": "eA=="}], sources=[SOURCE])
    assert package.title == "lwt.5.6.1"
    assert package.files == (("a/b", b"x", 0o644),)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5},
        {"name": "../../etc"},
        {"name": ""},
        {"version": "1/../../x"},
        {"version": ".."},
        {"opam": None},
        {"files": [{"path": "../x", "content": ""}]},
        {"files": [{"path": "/etc/passwd", "content": ""}]},
        {"files": [{"path": "a/../../x", "content": ""}]},
        {"files": [{"path": "", "content": ""}]},
        {"files": [{"path": "a\0b", "content": ""}]},
        {"files": [{"path": "x", "content": "no base64!"}]},
        {"files": ["x"]},
        {"sources": [{**SOURCE, "size": "1"}]},
        {"sources": [{**SOURCE, "size": True}]},
        {"sources": {}},
        {"debs": [{"name": "a"}]},
        {"debs": [None]},
        {"unknown": 1},
        {"files": [{"path": "x", "content": "", "mode": 1}]},
    ],
)
def test_packages_that_make_no_sense(change: Dict[str, Any]) -> None:
    """Wrong types, and names that would lead elsewhere."""
    with pytest.raises(RequestError):
        as_read(**change)


@given(st.text())
def test_safe_paths_stay_below(path: str) -> None:
    """What is let through stays where it is put, as the system sees it."""
    try:
        safe = safe_path(path)
    except RequestError:
        return
    assert os.path.normpath(os.path.join("/top", safe)).startswith("/top")


def _description(**change: Any) -> None:
    data = json.loads(Path("layer/layer.json").read_text())
    data.update(change)
    Path("layer/layer.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha256:../../../../etc/passwd"},
        {"digest": "md5:" + "0" * 32},
        {"digest": 5},
        {"diff_id": "sha256:" + "A" * 64},
        {"diff_id": ""},
        {"kind": "other"},
        {"kind": []},
        {"size": "5"},
        {"opam": []},
        {"dpkg": None},
    ],
)
def test_descriptions_of_layers_that_make_no_sense(here: Path, change: Dict[str, Any]) -> None:
    make_layer(here / "layer", make_tar([]))
    assert read_layer(here / "layer").kind == "package"
    _description(**change)
    with pytest.raises(RequestError, match="layer.json"):
        read_layer(here / "layer")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "{"])
def test_no_description_of_a_layer(here: Path, content: str) -> None:
    (here / "layer").mkdir()
    (here / "layer/layer.json").write_text(content)
    with pytest.raises(RequestError, match="layer.json"):
        read_layer(here / "layer")


@pytest.mark.parametrize("sha256", ["../../x", ""])
def test_a_source_whose_checksum_leads_elsewhere(here: Path, capfd: "pytest.CaptureFixture[str]", sha256: str) -> None:
    for number, kind in enumerate(("base", "opam-root")):
        make_layer(here / f"in/{number}", make_tar([]), kind, "x")
    package = {**PACKAGE, "sources": [{**SOURCE, "sha256": sha256}]}
    assert "unsafe name" in run(
        capfd, "build", json.dumps({"store": "s", "layers": ["in/0", "in/1"], "package": package})
    )


def _wrong_layers() -> "List[List[str]]":
    return [[], ["in/1", "in/0"], ["in/0"]]


@pytest.mark.parametrize("layers", _wrong_layers())
def test_a_build_needs_its_base(here: Path, capfd: "pytest.CaptureFixture[str]", layers: List[str]) -> None:
    for number, kind in enumerate(("base", "opam-root")):
        make_layer(here / f"in/{number}", make_tar([]), kind, "x")
    assert "layers" in run(capfd, "build", json.dumps({"store": "s", "layers": layers, "package": PACKAGE}))


RUN: Dict[str, Any] = {
    "image": "i",
    "store": "s",
    "runtime": "/usr/bin/crun",
    "kind": "crun",
    "env": [],
    "network": "host",
    "hostname": "h",
    "volumes": [{"source": "/a", "target": "/b"}],
}


def test_a_request_of_several_kinds() -> None:
    """The Literal that differs says which kind it is, and so which fields it has to have."""
    check(RUN, RunRequest, "r")
    with pytest.raises(RequestError, match="r: the field 'engine_args' is missing"):
        check({**RUN, "kind": "docker"}, RunRequest, "r")
    with pytest.raises(
        RequestError, match="r: 'kind' should be one of 'crun', 'runc', 'podman', 'docker', but is 'lxc'"
    ):
        check({**RUN, "kind": "lxc"}, RunRequest, "r")
    with pytest.raises(RequestError, match="r: 'network' should be one of 'host', 'none', but is 'bridge'"):
        check({**RUN, "network": "bridge"}, RunRequest, "r")
