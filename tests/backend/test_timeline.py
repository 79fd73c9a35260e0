"""bench.timeline: a trace as a picture that names no mirror."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any, Dict, List

import pytest

from bench.timeline import draw, joined

SVG = "{http://www.w3.org/2000/svg}"


def lane(number: int, name: str) -> Dict[str, Any]:
    return {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": name}}


def span(number: int, name: str, start: float, end: float) -> Dict[str, Any]:
    """Seconds here, microseconds in a trace."""
    return {"ph": "X", "name": name, "pid": 1, "tid": number, "ts": start * 1e6, "dur": (end - start) * 1e6}


def trace(*events: Dict[str, Any]) -> Dict[str, Any]:
    lanes = [lane(1, "process 1"), lane(2, "download 1"), lane(3, "download 2")]
    return {"traceEvents": [*lanes, *events]}


TRACE = trace(
    span(1, "Build opam package dune.3.17.2", 4, 10),
    span(2, "Downloading: https://user:secret@mirror.example/a.deb", 0, 2),
    span(3, "Downloading: https://mirror.example/b.deb", 1, 3),
    span(2, "Downloading: https://mirror.example/c.deb", 5, 6),
)


def test_downloads_are_one_lane() -> None:
    spans: List[Dict[str, Any]] = [e for e in joined(TRACE)["traceEvents"] if e["ph"] == "X"]
    downloads = [(e["name"], e["ts"] / 1e6, e["dur"] / 1e6) for e in spans if e["tid"] == 2]
    assert downloads == [("2 downloads", 0, 3), ("1 download", 5, 1)]
    assert {e["tid"] for e in spans} == {1, 2}


def test_picture() -> None:
    text = draw(TRACE)
    assert "example" not in text and "secret" not in text
    root = ET.fromstring(text)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "process 1 (60 %)" in texts and "downloads (40 %)" in texts and "dune.3.17.2" in texts
    widths = [float(element.attrib["width"]) for element in root.iter(f"{SVG}rect")][1:]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)  # six seconds and three


def test_nothing_ran() -> None:
    with pytest.raises(SystemExit, match="holds no span"):
        draw(trace())
