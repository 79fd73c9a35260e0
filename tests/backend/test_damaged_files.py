"""What is packaged is compared with what it was when it was made; warnings of processes are seen, once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pants.engine.process import FallibleProcessResult, ProcessResultMetadata

from opam_oci.sandbox.warnings import pass_on_warnings
from opam_sandbox.building.requests import OpamRootRequest
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.imaging import cli, verify_files
from opam_sandbox.request import read_request


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def result(source: str, stderr: bytes, exit_code: int = 0) -> Any:
    metadata = SimpleNamespace(source_run_id=3, source=lambda run: ProcessResultMetadata.Source(source))
    return SimpleNamespace(metadata=metadata, stderr=stderr, exit_code=exit_code)


WARNED = b"warning: lwt.5.6.1 is damaged in the store: 'f' is missing; it is made again\nother\n"


@pytest.mark.parametrize(
    ("source", "exit_code", "seen"),
    [("ran", 0, 1), ("hit_locally", 0, 0), ("hit_remotely", 0, 0), ("memoized", 0, 0), ("ran", 1, 0)],
)
def test_warnings(caplog: pytest.LogCaptureFixture, source: str, exit_code: int, seen: int) -> None:
    """Of what ran here and now: a cached result is not a reason to warn of a disk for ever."""
    caplog.set_level("WARNING")
    pass_on_warnings(result(source, WARNED, exit_code), "Build opam package b.1")
    text = "Build opam package b.1: lwt.5.6.1 is damaged in the store: 'f' is missing; it is made again"
    assert [record.getMessage() for record in caplog.records] == [text] * seen


def test_metadata_is_as_warnings_read_it() -> None:
    fields = set(ProcessResultMetadata.__dataclass_fields__)
    assert "source_run_id" in fields and "metadata" in FallibleProcessResult.__dataclass_fields__
    assert [one.value for one in ProcessResultMetadata.Source if one.value.startswith("ran")] != []


@pytest.fixture
def request_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/layer.json").write_bytes(b"{}")
    values = {"store": "store", "layers": ["in"], "inputs": {"in/layer.json": sha256(b"{}")}}
    Path("request.json").write_text(json.dumps(values))
    return Path("request.json").read_bytes()


def test_a_request_as_it_was_written(request_text: bytes) -> None:
    expected = {"store": "store", "layers": ["in"]}
    assert read_request("request.json", OpamRootRequest, sha256(request_text)) == expected
    assert read_request("request.json", OpamRootRequest) == expected


@pytest.mark.parametrize("damage", ["request", "input", "missing"])
def test_a_damaged_request(request_text: bytes, damage: str) -> None:
    """Every byte that a layer is made of is compared: a damaged one could be in it, and in a cache that others read."""
    if damage == "request":
        Path("request.json").write_bytes(request_text.replace(b'"store": "store"', b'"store": "stare"'))
    elif damage == "input":
        Path("in/layer.json").write_bytes(b"{ }")
    else:
        Path("in/layer.json").unlink()
    with pytest.raises(ToolError, match="is damaged: its sha256 is .* delete .*local_store_dir") as caught:
        read_request("request.json", OpamRootRequest, sha256(request_text))
    assert not isinstance(caught.value, RequestError)


def test_inputs_stay_below(request_text: bytes) -> None:
    Path("request.json").write_bytes(request_text.replace(b"in/layer.json", b"../x/layer.js"))
    with pytest.raises(RequestError, match="unsafe path"):
        read_request("request.json", OpamRootRequest)


def files(**contents: bytes) -> Any:
    Path("files").mkdir()
    listed = []
    for name, data in contents.items():
        Path("files", name).write_bytes(data)
        listed.append({"path": name, "sha256": sha256(data), "size": len(data)})
    return {"name": "image //:a", "files": listed}


def test_files_are_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert verify_files.run(files(a=b"a" * 3_000_000, b=b""), 2) == 0


@pytest.mark.parametrize("damage", ["bit", "short", "missing"])
def test_files_are_not_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("request.json").write_text(json.dumps(files(a=b"a" * 3_000_000, b=b"b")))
    if damage == "missing":
        Path("files/a").unlink()
    else:
        data = bytearray(b"a" * 3_000_000)
        data[2_000_000] ^= 4
        Path("files/a").write_bytes(data if damage == "bit" else data[:1_000_000])
    assert cli.main(["verify-files", "request.json"]) == 1
    said = capfd.readouterr().err
    assert said.startswith("error: image //:a is damaged: a ") and "local_store_dir" in said and "b has" not in said
