"""unpack: any bytes as a layer's tar: an error or a tree, and nothing outside of the tree."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, List

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.unpack import unpack

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

BLOCK = 512
_TYPES = [
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
]
_NAMES = ["a", "b", "a/b", "a/b/c", "a/.wh.b", ".wh.a", "a/.wh..wh..opq"]
_ODD = [".", "./", "..", "../outside/canary", "/abs", ".wh..wh..opq", ".wh.", ".wh..", ".wh...", ".wh..wh.x", ".wh.a/b"]
_ODD += ["a/../b", "a//b", "n" * 255, "n" * 256, "d/" * 300 + "f", "\udcff"]


def tar_of(*members: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of members that need not make sense; regular ones have as much content as they say."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    data = out.getvalue().rstrip(b"\0")
    return data + bytes(-len(data) % BLOCK + 2 * BLOCK)  # without what fills a tape's record


def entry(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "", size: int = 0, **pax: str) -> tarfile.TarInfo:
    """One member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode, info.mtime = kind, linkname, size, 0o6755, 77
    info.devmajor, info.devminor = 1, 3
    info.pax_headers = {key.replace("__", "."): value for key, value in pax.items()}
    return info


SEEDS: List[bytes] = [
    b"",
    bytes(BLOCK * 2),
    tar_of(entry("a", tarfile.DIRTYPE), entry("a/b", size=600), entry("a/c", tarfile.LNKTYPE, "a/b")),
    tar_of(entry("s", tarfile.SYMTYPE, "../outside"), entry("s/x", size=3)),
    tar_of(entry("d", tarfile.DIRTYPE), entry("d/.wh..wh..opq"), entry("d/.wh.x"), entry("d/x", size=1)),
    tar_of(entry("n" * 200, size=5, path="p" * 200), entry("l" * 120, tarfile.SYMTYPE, "t" * 300)),
    tar_of(entry("n" * 200, size=5), entry("l" * 120, tarfile.SYMTYPE, "t" * 300), form=tarfile.GNU_FORMAT),
    tar_of(entry("x", size=2, SCHILY__xattr__user__a="b", mtime="1.5"), entry("f", tarfile.FIFOTYPE)),
    tar_of(entry("s", size=4, GNU__sparse__major="1"), entry("c", tarfile.CHRTYPE)),
]


def mended(data: bytes) -> bytes:
    """The same archive with the right checksum in each header: else almost every change ends there."""
    out = bytearray(data)
    at = 0
    while at + BLOCK <= len(out):
        block = out[at : at + BLOCK]
        if not any(block):
            break
        out[at + 148 : at + 156] = b" " * 8
        out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + BLOCK])
        digits = bytes(block[124:135]).strip(b"\0 ")
        size = int(digits, 8) if digits and not digits.strip(b"01234567") else 0
        content = bytes(block[156:157]) in (b"0", b"\0", b"7", b"x", b"g", b"L", b"K")
        at += BLOCK + (-(-size // BLOCK) * BLOCK if content else 0)
    return bytes(out)


def run(data: bytes) -> None:
    """Unpack `data`, and the archive that it almost is."""
    for archive in (data, mended(data)):
        with tempfile.TemporaryDirectory() as directory:
            top = Path(directory)
            (top / "target").mkdir()
            (top / "outside").mkdir()
            (top / "outside/canary").write_text("alive")
            try:
                unpack(io.BytesIO(archive), top / "target", rootless=os.geteuid() != 0)
            except ToolError:
                pass
            assert sorted(os.listdir(top)) == ["outside", "target"], "something is beside the target"
            assert os.listdir(top / "outside") == ["canary"], "something is outside"
            found = (top / "outside/canary").lstat()
            assert (found.st_nlink, stat.S_IMODE(found.st_mode) & 0o7000, found.st_size) == (1, 0, 5), (
                "a file outside changed"
            )


def examples() -> "SearchStrategy[bytes]":
    """Archives of a few entries, whose names meet."""
    from hypothesis import strategies as st

    name = st.one_of(*[st.sampled_from(_NAMES)] * 9, st.sampled_from(_ODD))
    link = st.sampled_from(["a", "b", "a/b", "a/b", "../outside/canary", "/", ".", ""])
    one = st.builds(entry, name, st.sampled_from(_TYPES), link, st.sampled_from([0, 1, 512, 700]))
    return st.lists(one, min_size=1, max_size=6).map(lambda members: tar_of(*members))
