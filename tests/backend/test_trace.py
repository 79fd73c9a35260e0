"""The trace of a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from opam_oci.run_end.trace import Span, TraceWriter, spans, trace


def workunit(name: str, start: float, duration: float, description: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "start_secs": int(start),
        "start_nanos": round((start % 1) * 1e9),
        "duration_secs": int(duration),
        "duration_nanos": round((duration % 1) * 1e9),
    }


def test_spans_of_workunits() -> None:
    units = [
        workunit("run_local_process", 100.5, 2.25, "Build opam package a.1"),
        workunit("scandir", 100, 1),
        {"name": "run_local_process", "start_secs": 1, "start_nanos": 0},  # still running
    ]
    assert spans(units) == [Span("process", "Build opam package a.1", 100.5, 2.25)]


def test_what_runs_side_by_side_is_in_lanes() -> None:
    found = [
        Span("process", "a", 10, 5),
        Span("process", "b", 11, 1),
        Span("process", "c", 12, 1),
        Span("download", "d", 9, 9),
    ]
    events = trace(found)["traceEvents"]
    lanes = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert lanes == {1: "process 1", 2: "process 2", 3: "download"}
    shown = {e["name"]: (lanes[e["tid"]], e["ts"], e["dur"]) for e in events if e["ph"] == "X"}
    assert shown == {
        "a": ("process 1", 1_000_000, 5_000_000),
        "b": ("process 2", 2_000_000, 1_000_000),
        "c": ("process 2", 3_000_000, 1_000_000),
        "d": ("download", 0, 9_000_000),
    }


def test_it_is_written_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "new/trace.json"
    writer = TraceWriter(file)
    context: Any = None
    unit = workunit("run_local_process", 1, 1, "a")
    writer(started_workunits=(), completed_workunits=(unit,), finished=False, context=context)
    assert not file.exists()
    writer(started_workunits=(), completed_workunits=(), finished=True, context=context)
    assert [e["name"] for e in json.loads(file.read_text())["traceEvents"]] == ["thread_name", "a"]
    assert [path.name for path in file.parent.iterdir()] == ["trace.json"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    writer = TraceWriter(tmp_path / "file/trace.json")
    context: Any = None
    with caplog.at_level(logging.WARNING):
        writer(started_workunits=(), completed_workunits=(), finished=True, context=context)
    assert "The trace was not written" in caplog.text
