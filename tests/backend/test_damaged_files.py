"""What is packaged is compared with what it was when it was made; warnings of processes are seen, once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pants.engine.internals.scheduler import ExecutionError
from pants.engine.process import FallibleProcessResult, ProcessResultMetadata
from pants.testutil.rule_runner import QueryRule, RuleRunner

from opam_oci.images import stored_files
from opam_oci.images.stored_files import StoredFiles, StoredFilesRequest, problem_of_file
from opam_oci.sandbox.warnings import pass_on_warnings
from opam_sandbox.building.requests import OpamRootRequest
from opam_sandbox.errors import RequestError, ToolError
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


@pytest.mark.parametrize(
    ("source", "exit_code", "seen"), [("ran", 0, 1), ("hit_remotely", 0, 1), ("memoized", 0, 1), ("ran", 1, 0)]
)
def test_notes(caplog: pytest.LogCaptureFixture, source: str, exit_code: int, seen: int) -> None:
    """Of what was made: it is the same out of a cache."""
    caplog.set_level("WARNING")
    pass_on_warnings(result(source, b"note: x is left out\nother\n", exit_code), "Make the runtime layer of a:b")
    assert [record.getMessage() for record in caplog.records] == ["Make the runtime layer of a:b: x is left out"] * seen


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


def stored(store: Path, data: bytes) -> Path:
    name = sha256(data)
    path = store / "immutable/files" / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is another file, has another time, the machine was started again, or an hour is over."""
    data = b"a" * 3_000_000
    path, marks = stored(tmp_path, data), tmp_path / "marks"
    assert problem_of_file(tmp_path, marks, sha256(data)) == ""
    reads = []
    real = hashlib.sha256

    def counted(*data: bytes) -> Any:
        reads.append(1)
        return real(*data)

    monkeypatch.setattr(stored_files.hashlib, "sha256", counted)
    name = real(data).hexdigest()
    assert problem_of_file(tmp_path, marks, name) == "" and reads == []
    os.link(path, tmp_path / "as-for-a-sandbox")
    assert problem_of_file(tmp_path, marks, name) == "" and reads == []
    os.utime(path, (1, 1))
    assert problem_of_file(tmp_path, marks, name) == "" and len(reads) == 1
    monkeypatch.setattr(stored_files, "time", SimpleNamespace(time=lambda: time.time() + 4000))
    assert problem_of_file(tmp_path, marks, name) == "" and len(reads) == 2
    monkeypatch.setattr(stored_files, "_BOOT_ID", path.parent / "boot")
    (path.parent / "boot").write_text("another\n")
    assert problem_of_file(tmp_path, marks, name) == "" and len(reads) == 3


@pytest.mark.parametrize("damage", ["bit", "short", "empty"])
@pytest.mark.parametrize("known", [False, True])
def test_a_large_file_is_not_what_it_was(tmp_path: Path, damage: str, known: bool) -> None:
    data = bytearray(b"a" * 3_000_000)
    path, marks, name = stored(tmp_path, bytes(data)), tmp_path / "marks", sha256(data)
    if known:
        assert problem_of_file(tmp_path, marks, name) == ""
    data[2_000_000] ^= 4
    path.write_bytes({"bit": bytes(data), "short": bytes(data[:1_000_000]), "empty": b""}[damage])
    for _ in range(2):  # what is damaged is never noted as right
        assert f"sha256:{name} is damaged in Pants' store" in problem_of_file(tmp_path, marks, name)


def test_a_file_that_is_elsewhere(tmp_path: Path) -> None:
    """A remote cache has it: Pants compares what it downloads."""
    assert problem_of_file(tmp_path, tmp_path / "marks", sha256(b"")) == ""


def test_a_damaged_store_ends_a_run(tmp_path: Path) -> None:
    """Small files are in Pants' database: looked at through the engine, which gives out what was put in."""
    option = f"--local-store-dir={tmp_path}"
    runner = RuleRunner(
        rules=[*stored_files.rules(), QueryRule(StoredFiles, [StoredFilesRequest])],
        bootstrap_args=[option],
    )
    runner.set_options([option])
    large = b"l" * 600_000
    digest = runner.make_snapshot({"blobs/small": b"s".decode(), "blobs/large": large.decode()}).digest
    assert runner.request(StoredFiles, [StoredFilesRequest(digest, "image //:a")]) == StoredFiles()
    path = tmp_path / "immutable/files" / sha256(large)[:2] / sha256(large)
    path.chmod(0o644)
    path.write_bytes(b"L" + large[1:])
    runner.set_options([option])  # another run
    with pytest.raises(
        ExecutionError, match="image //:a is not written: sha256:.* is damaged in Pants' store .*delete"
    ):
        runner.request(StoredFiles, [StoredFilesRequest(digest, "image //:a")])
