"""TeX's lists of files, in one order."""

from __future__ import annotations

import pytest

from opam_sandbox.beside.file_lists import ordered

HEAD = b"% ls-R -- filename database for kpathsea; do not change this line.\n\n./:\n"
EXPECTED = HEAD + b".:\nls-R\ntex\nxdvi\n\n./tex:\nb\n\n./xdvi:\nXDvi-paper\nz\n"


@pytest.mark.parametrize(
    "rest",
    [
        b".:\nxdvi\ntex\nls-R\n\n./xdvi:\nz\nXDvi-paper\n\n./tex:\nb\n\n",
        b".:\nls-R\ntex\nxdvi\n\n./tex:\nb\n\n./xdvi:\nXDvi-paper\nz\n",
    ],
)
def test_one_order(rest: bytes) -> None:
    assert ordered(HEAD + rest) == EXPECTED


def test_of_a_directory_whose_name_is_not_said_again() -> None:
    assert ordered(HEAD + b"b\na\n\n./b:\n\n./a:\nd\nc\n") == HEAD + b"a\nb\n\n./a:\nc\nd\n\n./b:\n"


@pytest.mark.parametrize("content", [b"", b"b\na\n", HEAD[:-1], b"\x00\n./:x\n"])
def test_what_is_no_list_stays(content: bytes) -> None:
    assert ordered(content) == content
