"""opam_state: what `opam env` prints, read; what opam itself writes is compared in tests/e2e/test_differential.py."""

from __future__ import annotations

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.imaging.opam_state import image_environment, read_environment


def test_the_order_and_all_escapes() -> None:
    printed = rb"""(
  ("PATH" "/switch/bin:/usr/bin")
  ("QUOTED" "a \"b\" \\n \\\\ line\nnext\ttab\r\b\001 $X 'y'")
  ("UTF" "caf\195\169")
  ("EMPTY" "")
)
"""
    assert list(read_environment(printed).items()) == [
        ("PATH", "/switch/bin:/usr/bin"),
        ("QUOTED", "a \"b\" \\n \\\\ line\nnext\ttab\r\b\x01 $X 'y'"),
        ("UTF", "café"),
        ("EMPTY", ""),
    ]


@pytest.mark.parametrize(
    "printed, said",
    [
        (b"", "did not print an environment in the image, but b''"),
        (b"[WARNING] x\n(\n)\n", "did not print an environment"),
        (b'(\n  ("A" "b")\n', "did not print an environment"),
        (b'(\n  ("A" b)\n)\n', r"""printed b'  ("A" b)' in the image"""),
        (b'(\n  ("A" "b"c")\n)\n', "which is no variable"),
        (b'(\n  ("NAME" "\\233")\n)\n', r"`setenv` gives the variable NAME the value b'\xe9', which is not UTF-8"),
    ],
)
def test_other_output(printed: bytes, said: str) -> None:
    with pytest.raises(ToolError) as raised:
        read_environment(printed)
    assert said in str(raised.value)


def test_what_an_image_has_without_opam() -> None:
    assert list(image_environment()) == ["HOME", "LANG", "PATH"]
