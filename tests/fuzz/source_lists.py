"""Debian's lists of source packages, apt's answers, and the files that keep what is known of both."""

from __future__ import annotations

from typing import List

from opam_sandbox.errors import ToolError
from opam_sandbox.locking import apt, apt_lists, cache, indexes
from tests.fuzz._places import place

SEEDS: List[bytes] = [
    b"""Package: gcc-defaults
Format: 3.0 (quilt)
Directory: pool/main/g/gcc-defaults
Files:
 0123456789abcdef0123456789abcdef 5132 gcc_1.orig.tar.gz
 0123456789abcdef0123456789abcdee 51 gcc_1.dsc
Checksums-Sha256:
 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef 5132 gcc_1.orig.tar.gz

""",
    b"'https://example.org/debian/pool/main/g/gcc.deb' gcc_4%3a14.2.0-1_amd64.deb 5132 SHA256:0123abcd\n",
    b'{"debs": [{"name": "a", "version": "1", "architecture": "amd64", "path": "p", "sha256": "0", "size": 1}]}',
    b'{"error": "no"}',
    b"NAME  VALUE # what it is\nos-family   debian   # Inferred\narch x86_64 # a # b\n",
]
TOKENS = [
    b"Files:\n",
    b"Checksums-Sha256:\n",
    b"Directory:",
    b"/pool/",
    b"https://example.org/debian",
    b"SHA256:",
    b"%00",
]


def run(data: bytes) -> None:
    directory = place("lists")
    (directory / "lists").mkdir(exist_ok=True)
    (directory / "lists/x_Sources").write_bytes(data)
    try:
        files = list(apt_lists.source_files(apt_lists.Lists(directory, "amd64")))
    except ToolError as error:
        assert str(error).startswith("x_Sources cannot be read")
    else:
        lines = directory / "sources.txt"
        cache.write_whole(lines, "".join(map(indexes.source_line, files)))
        every = {file.path for file in files}
        found = list(indexes.read_source_index(lines, set(), every, set()))
        assert [file.path for file in found] == [file.path for file in files]
    text = data.decode("utf-8", "surrogateescape")
    for line in text.splitlines():
        try:
            deb = apt.parse_uri_line(line, "https://example.org/debian")
        except ToolError:
            continue
        assert deb is None or (deb.size >= 0 and deb.name)
    memo = cache.Memo(directory / "answers")
    (directory / "answers").mkdir(exist_ok=True)
    (directory / "answers/key").write_bytes(data)
    answer = memo.get("key")
    if answer is not None and apt._is_answer(answer) and "error" not in answer:
        assert len({apt.LockedDeb(**deb) for deb in answer["debs"]}) <= len(answer["debs"])
