"""switch: the state of a switch."""

from __future__ import annotations

from opam_sandbox.opam import opamfile
from opam_sandbox.opam.switch import switch_state


def test_switch_state_is_sorted_and_parses() -> None:
    text = switch_state(["b.1", "a.2"], ["b.1"])
    items = {item.name: item.value for item in opamfile.parse(text, "t")}
    assert items["installed"] == opamfile.ListOf((opamfile.Str("a.2"), opamfile.Str("b.1")))
    assert items["roots"] == opamfile.ListOf((opamfile.Str("b.1"),))
    assert "compiler" not in items  # as opam leaves out what is empty
    assert switch_state([], []) == 'opam-version: "2.0"\n'


def test_the_order_is_opams() -> None:
    """By name, in which neither a version nor the case counts."""
    found = switch_state(["ocaml-config.3", "ocaml.5.3.0", "conf-libY.1", "conf-libX11.1", "conf-libx.2"], [])
    assert found.endswith('installed: ["conf-libx.2" "conf-libX11.1" "conf-libY.1" "ocaml.5.3.0" "ocaml-config.3"]\n')
