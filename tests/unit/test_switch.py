"""switch: opam files as builds see them, and the switch's state."""

from __future__ import annotations

from opam_sandbox.opam import opamfile
from opam_sandbox.opam.switch import stripped, switch_state


def test_stripped() -> None:
    """What would make opam solve, fetch or ask is gone; how to build is not."""
    text = 'opam-version: "2.0"\ndepends: ["a" {>= "1"}]\nbuild: [make]\ndepexts: [["x"]]\nurl {\n  src: "u"\n}\n'
    items = opamfile.parse(stripped(text, "t"), "t")
    assert [item.name for item in items] == ["opam-version", "build"]


def test_switch_state_is_sorted_and_parses() -> None:
    text = switch_state(["b.1", "a.2"], ["b.1"])
    items = {item.name: item.value for item in opamfile.parse(text, "t")}
    assert items["installed"] == opamfile.ListOf((opamfile.Str("a.2"), opamfile.Str("b.1")))
    assert items["roots"] == opamfile.ListOf((opamfile.Str("b.1"),))
