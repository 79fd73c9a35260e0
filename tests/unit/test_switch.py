"""switch: the state of a switch."""

from __future__ import annotations

from opam_sandbox.opam import opamfile
from opam_sandbox.opam.switch import switch_state


def test_switch_state_is_sorted_and_parses() -> None:
    text = switch_state(["b.1", "a.2"], ["b.1"])
    items = {item.name: item.value for item in opamfile.parse(text, "t")}
    assert items["installed"] == opamfile.ListOf((opamfile.Str("a.2"), opamfile.Str("b.1")))
    assert items["roots"] == opamfile.ListOf((opamfile.Str("b.1"),))
