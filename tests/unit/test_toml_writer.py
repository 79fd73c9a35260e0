"""toml_text: whatever is written is read back as it was."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opam_sandbox.locking.toml_writer import lockfile, table

tomli = pytest.importorskip("tomli", reason="tomli reads the TOML back")

# A lone surrogate is no character: TOML is UTF-8 and cannot say it.
_text = st.text(st.characters(blacklist_categories=("Cs",)))
_tricky = st.lists(
    st.sampled_from(['"', "\\", "\n", "\r", "\t", " ", "a", "\x7f", "\0", "'", "#", "é"]), max_size=12
).map("".join)
_any = st.one_of(_text, _tricky)


@given(_any, st.lists(_any, max_size=4), st.integers(-(1 << 63), (1 << 63) - 1), st.booleans())
@example('a\n""""""', [], 0, False)
@example('\n"', ['"""'], 0, True)
@example('"""\\\n\\', ["\n"], 0, True)
@example("\r\n\t\n", [], 0, True)
def test_round_trip(text: str, strings: List[str], number: int, truth: bool) -> None:
    values = {"text": text, "strings": strings, "number": number, "truth": truth}
    written = lockfile("default", {"text": text}, [table("[[item]]", values), table("[[item]]", {"text": text})])
    assert tomli.loads(written) == {
        "metadata": {"lock_version": 1, "tables": 2, "text": text},
        "item": [values, {"text": text}],
    }


def test_it_reads_well() -> None:
    """An opam file is a block of lines as they are, so that a diff of lockfiles shows what changed."""
    text = table("[[package]]", {"name": "a", "opam": 'depends: [\n  "b" {>= "1"}\n]\n'})
    assert text == '[[package]]\nname = "a"\nopam = """\ndepends: [\n  "b" {>= "1"}\n]\n"""\n\n'
