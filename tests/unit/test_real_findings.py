"""Whose a difference is that the sweep over real packages finds, and what counts as explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweeps import real_findings
from tests.sweeps.real_findings import SWITCH, Results, by_package, is_explained, owners

_DUMP = r"""## var zarith
"lib/not/a/change" {"D"}
## changes a-b
opam-version: "2.0"
added: [
  "lib/a-b" {"D"}
  "lib/a-b/say \"it\"" {"F:0123"}
]
## changes c
added: "bin/c" {"F:4567"}
## list
"lib/nobody" {"D"}
"""
_HASH = "0" * 64
_LINES = {
    "a-b.1.2": [
        "+files: lib/a-b|d|755|",
        "-var a-b: x = 1",
        "+changes a-b:   x",
        "+files: .opam-switch/install/a-b.changes|f|644|",
    ],
    "c.v3": [
        f"-contents: {_HASH}  bin/c",
        "-files: .opam-switch/config/c.config|f|644|",
        '-records: added: "bin/c" {"F:4567"}',
    ],
    SWITCH: ["+env: A=b", "-files: lib/nobody|d|755|", "+var: switch"],
}


def test_owners() -> None:
    assert owners(_DUMP) == {"lib/a-b": "a-b", 'lib/a-b/say \\"it\\"': "a-b", "bin/c": "c"}


def test_by_package() -> None:
    lines = [line for part in _LINES.values() for line in part]
    assert by_package(lines, ["a-b.1.2", "c.v3", "same.1"], _DUMP) == {**_LINES, "same.1": []}


def test_only_lines_of_the_kind_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(real_findings, "EXPLAINED", {"c": ("  bin/c$", "it has the date in it")})
    one, other, _ = _LINES["c.v3"]
    assert is_explained("c.v3", [one]) and not is_explained("c.v3", [one, other])
    assert is_explained("d.1", []) and not is_explained("d.1", [one])
    results = Results(tmp_path / "results.json")
    results.add("first", {"c.v3": [one], "d.1": []})
    assert results.differing() == []
    results.add("second", {"c.v3": [other], SWITCH: ["+env: A=b"]})
    again = Results(tmp_path / "results.json")
    assert again.differing() == [SWITCH, "c.v3"]
    page = again.page()
    assert "| d | 1 | first | the same |" in page and "| c | v3 | first, second | not explained: " in page
    assert "Compared are 2 packages: 1 are the same, 1 differ." in page and "\n    +env: A=b\n" in page
    results.add("second", {"c.v3": []})
    assert "| c | v3 | first, second | it has the date in it |" in results.page()
