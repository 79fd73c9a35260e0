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


def test_packages_are_in_the_order_of_opam() -> None:
    # What opam 2.3 writes.
    names = ["Ab", "a", "a+b", "a-b", "a2", "a_b", "aa", "aB", "Ba", "b-1", "b1", "b_1", "bC"]
    text = switch_state([f"{name}.1" for name in sorted(names)], ())
    assert text.splitlines()[1] == "installed: [" + " ".join(f'"{name}.1"' for name in names) + "]"
