"""Tars that are damaged, ambiguous or made to do harm: unpack and merge refuse the same ones, and take the same."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.merge_tars import merge
from opam_sandbox.layer.tar_headers import END
from opam_sandbox.layer.unpack import unpack
from tests.fuzz import merge_tars as property_of_merge
from tests.support.tar_bytes import base256, extended, octal, pax, raw, record
from tests.unit.conftest import Collected, make_tar, member

pytestmark = pytest.mark.usefixtures("root_user")

DIR, SYM, LNK, CHR = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
Member = Tuple[tarfile.TarInfo, bytes]


FILE = raw(b"f", size=octal(3), body=b"abc")

REFUSED: List[Tuple[str, bytes, str]] = [
    ("empty", b"", "ends after 0 bytes"),
    ("one byte", b"x", "ends after"),
    ("no end", FILE, "without an end marker"),
    ("garbage", b"x" * 1024, "checksum"),
    ("another archive behind its end", FILE + END + FILE + END, "behind its end"),
    ("a byte behind its end", FILE + END + bytes(5000) + b"x", "behind its end"),
    ("half an end marker, then more", FILE + bytes(512) + FILE + END, "behind its end"),
    ("content is cut", raw(size=octal(5000), body=b"x" * 100), "ends"),
    ("more than there is", raw(size=base256(1 << 60)) + END, "ends"),
    ("size of 2**62", raw(size=base256(1 << 62)) + END, "ends|behind"),
    ("size of 2**80", raw(size=base256(1 << 80)) + END, "out of range"),
    ("size of -1", raw(size=base256(-1)) + END, "out of range"),
    ("size of -512", raw(size=base256(-512)) + FILE + END, "out of range"),
    ("size is no number", raw(size=b"00000000009\0") + END, "no number"),
    ("size has a sign", raw(size=b"-0000000512\0") + END, "no number"),
    ("size has digits and spaces", raw(size=b"1 1        \0") + END, "no number"),
    ("mode is no number", raw(at100=b"000z644\0") + END, "no number"),
    ("owner of 2**32-1", raw(at108=base256((1 << 32) - 1, 8)) + END, "out of range"),
    ("owner of -1", raw(at108=base256(-1, 8)) + END, "out of range"),
    ("sparse", raw(kind=b"S") + END, "sparse"),
    ("sparse, GNU 0.0", pax(b"GNU.sparse.size", b"1000") + END, "sparse"),
    ("sparse, GNU 1.0", pax(b"GNU.sparse.major", b"1") + END, "sparse"),
    ("sparse in a global header", extended(record(b"GNU.sparse.major", b"1"), b"g") + FILE + END, "global"),
    ("multi-volume", raw(kind=b"M") + END, "unknown kind"),
    ("volume label", raw(kind=b"V") + END, "unknown kind"),
    ("dump directory", raw(kind=b"D") + END, "unknown kind"),
    ("socket of star", raw(kind=b"s") + END, "unknown kind"),
    ("pax size is negative", pax(b"size", b"-1") + END, "no number"),
    ("pax size is no number", pax(b"size", b"abc") + END, "no number"),
    ("pax size is hexadecimal", pax(b"size", b"0x10") + END, "no number"),
    ("pax size has an underscore", pax(b"size", b"1_0") + END, "no number"),
    ("pax size has many digits", pax(b"size", b"9" * 5000) + END, "no number"),
    ("pax owner is negative", pax(b"uid", b"-5") + END, "no number"),
    ("pax owner is too large", pax(b"gid", b"4294967295") + END, "out of range"),
    ("pax time is not finite", pax(b"mtime", b"inf") + END, "no number"),
    ("pax time has an exponent", pax(b"mtime", b"1e9") + END, "no number"),
    ("pax path has a NUL", pax(b"path", b"a\0b") + END, "unsafe"),
    ("pax path leads out", pax(b"path", b"../x") + END, "unsafe"),
    ("pax path for all", extended(record(b"path", b"x"), b"g") + FILE + END, "global"),
    ("pax attributes for all", extended(record(b"SCHILY.xattr.user.a", b"x"), b"g") + FILE + END, "global"),
    ("record of a wrong length", extended(b"99 path=a\n") + FILE + END, "wrong length"),
    ("record of a short length", extended(b"3 path=a\n") + FILE + END, "wrong length"),
    ("record without a length", extended(b"path=a\n") + FILE + END, "wrong length"),
    ("record of a negative length", extended(b"-9 path=a\n") + FILE + END, "wrong length"),
    ("record without a key", extended(b"6 =ab\n") + FILE + END, "without a key"),
    ("record without an equals sign", extended(b"8 pathx\n") + FILE + END, "without a key"),
    ("record without a line feed", extended(b"9 path=ab") + FILE + END, "wrong length"),
    ("NUL in a key", extended(record(b"SCHILY.xattr.user.a\0b", b"")) + FILE + END, "without a key"),
    ("extended header of 1 GiB", raw(b"p", b"x", octal(1 << 30)) + bytes(4096), "out of range"),
    ("extended header of 8 GiB", raw(b"p", b"x", base256(1 << 33)) + bytes(4096), "out of range"),
    ("extended header of -1", raw(b"p", b"x", base256(-1)) + FILE + END, "out of range"),
    ("GNU name of 1 MiB", raw(b"p", b"L", octal(1 << 20), b"n" * (1 << 20)) + FILE + END, "out of range"),
    ("GNU name leads out", raw(b"p", b"L", octal(5), b"../x\0") + FILE + END, "unsafe"),
    ("two extended headers", extended(record(b"path", b"a")) * 2 + FILE + END, "two extended headers"),
    ("ten thousand extended headers", extended(record(b"path", b"a")) * 10_000 + FILE + END, "two extended headers"),
    ("two GNU names", raw(b"p", b"L", octal(2), b"a\0") * 2 + FILE + END, "two extended headers"),
    ("extended header of nothing", extended(record(b"path", b"a")) + END, "belongs to no entry"),
    ("name of 256 bytes", pax(b"path", b"n" * 256) + END, "too long"),
    ("directory of 300 bytes", pax(b"path", b"n" * 300 + b"/x") + END, "too long"),
    ("path of 4096 bytes", pax(b"path", b"d/" * 2048 + b"f") + END, "too long"),
    ("path of 50,000 bytes", pax(b"path", b"d/" * 25_000 + b"f") + END, "too long"),
    ("whiteout of 256 bytes", pax(b"path", b".wh." + b"n" * 252) + END, "too long"),
    ("hard link to a path too long", extended(record(b"linkpath", b"d/" * 2048)) + raw(kind=b"1") + END, "too long"),
    ("symlink of 4096 bytes", extended(record(b"linkpath", b"t" * 4096)) + raw(kind=b"2") + END, "target"),
    ("symlink of nothing", raw(kind=b"2") + END, "target"),
    ("file with a directory's name", raw(b"a/") + END, "directory's"),
    (
        "device for which there is no number",
        raw(kind=b"3", at329=b"7777777\0", at337=b"0000001\0") + END,
        "out of range",
    ),
    ("device 0:0", raw(kind=b"3") + END, "deleted file"),
    ("attribute of no name", pax(b"SCHILY.xattr.", b"x") + END, "attribute"),
    ("attribute of no kind", pax(b"SCHILY.xattr.nonsense", b"x") + END, "attribute"),
]

LAYERS: List[Tuple[str, List[Member], str]] = [
    ("whiteout of the root", [member(".wh..wh..opq")], "below the root"),
    ("whiteout in ./", [member("./.wh..wh..opq")], "below the root"),
    ("aufs's own", [member(".wh..wh.plnk", DIR)], "without a name"),
    ("whiteout of a whiteout", [member("a/.wh..wh.x")], "without a name"),
    ("below a whiteout's directory", [member(".wh.a", DIR), member(".wh.a/b")], "below a whiteout"),
    ("hard link to a whiteout", [member(".wh.a"), member("b", LNK, linkname="a")], "names no file"),
    ("hard link of what comes later", [member("b", LNK, linkname="a"), member("a")], "names no file"),
    ("hard link of a directory without an entry", [member("d/x"), member("b", LNK, linkname="d")], "names no file"),
    (
        "file, then link, then directory",
        [member("a"), member("a", DIR), member("b", LNK, linkname="a")],
        "names no file",
    ),
    ("file over what is below it", [member("d/x"), member("d")], "both a directory and a file"),
    ("link over a directory", [member("d", DIR), member("d", SYM, linkname="/")], "both a directory and a file"),
    ("through a link", [member("s", SYM, linkname="d"), member("d", DIR), member("s/x")], "below 's'"),
    ("through a hard link", [member("f"), member("h", LNK, linkname="f"), member("h/x")], "below 'h'"),
]


def refused(data: bytes, target: Path) -> Tuple[str, str]:
    """What unpack and merge say."""
    target.mkdir()
    with pytest.raises(ToolError) as unpacked:
        unpack(io.BytesIO(data), target, rootless=False, title="layer 7")
    with pytest.raises(ToolError) as merged:
        merge([io.BytesIO(data)], Collected(), False, ["layer 7"])
    return str(unpacked.value), str(merged.value)


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[name for name, _, _ in REFUSED])
def test_refused_archives(tmp_path: Path, number: int) -> None:
    _, data, says = REFUSED[number]
    for text in refused(data, tmp_path / "target"):
        assert text.startswith("layer 7") and len(text) < 500
        assert re.search(says, text), text


@pytest.mark.parametrize("number", range(len(LAYERS)), ids=[name for name, _, _ in LAYERS])
def test_refused_layers(tmp_path: Path, number: int) -> None:
    """Readers do not agree on what these mean."""
    _, members, says = LAYERS[number]
    for text in refused(make_tar(members), tmp_path / "target"):
        assert text.startswith("layer 7 holds") and says in text


def test_truncated_anywhere(tmp_path: Path) -> None:
    """Cut at each block, and within blocks: an error of both."""
    data = make_tar(
        [member("d", DIR), member("d/" + "n" * 200, content=b"2" * 1200), member("s", SYM, linkname="t" * 200)]
    )
    data = data.rstrip(b"\0")
    data += bytes(-len(data) % 512)
    for number, length in enumerate([*range(0, len(data) + 1, 512), *range(7, len(data), 501)]):
        refused(data[:length], tmp_path / str(number))


TAKEN: List[Tuple[str, bytes, Dict[str, Any]]] = [
    ("POSIX", FILE + END, {"f": b"abc"}),
    ("no second end block", FILE + bytes(512), {"f": b"abc"}),
    ("a tape's record", FILE + bytes(10240), {"f": b"abc"}),
    ("size in base 256", raw(size=base256(3), body=b"abc") + END, {"f": b"abc"}),
    ("size in pax", extended(record(b"size", b"3")) + raw(size=octal(0), body=b"abc") + END, {"f": b"abc"}),
    ("spaces around numbers", raw(size=b"         3 \0", body=b"abc") + END, {"f": b"abc"}),
    ("checksum of signed bytes", raw(b"\xff", size=octal(3), body=b"abc") + END, {"\udcff": b"abc"}),
    ("name in ustar's prefix", raw(b"b", size=octal(1), body=b"x", at345=b"p/q") + END, {"p/q/b": b"x"}),
    (
        "old GNU times in the prefix's place",
        raw(b"b", size=octal(1), body=b"x", at257=b"ustar  \0", at345=b"07") + END,
        {"b": b"x"},
    ),
    (
        "version 7",
        raw(b"d/", b"\0", at257=bytes(255)) + raw(b"d/f", b"\0", octal(1), b"x", at257=bytes(255)) + END,
        {"d/f": b"x"},
    ),
    ("contiguous file", raw(b"c", b"7", octal(1), b"x") + END, {"c": b"x"}),
    ("global comment", extended(record(b"comment", b"git"), b"g") + FILE + END, {"f": b"abc"}),
    ("GNU long name", raw(b"p", b"L", octal(201), b"n" * 200 + b"\0") + FILE + END, {"n" * 200: b"abc"}),
    (
        "pax over GNU long name",
        raw(b"p", b"L", octal(2), b"a\0") + extended(record(b"path", b"z")) + FILE + END,
        {"z": b"abc"},
    ),
    ("empty value of pax", extended(record(b"path", b"")) + FILE + END, {"f": b"abc"}),
    ("size of a directory", raw(b"d", b"5", octal(512)) + FILE + END, {"f": b"abc"}),
    ("hard link with a size", FILE + raw(b"g", b"1", octal(3), at157=b"f") + END, {"f": b"abc", "g": b"abc"}),
    ("name of 255 bytes", pax(b"path", b"n" * 255) + END, {"n" * 255: b""}),
    ("whiteout, then below it", make_tar([member(".wh.a"), member("a/b", content=b"x")]), {"a/b": b"x"}),
]


@pytest.mark.parametrize("number", range(len(TAKEN)), ids=[name for name, _, _ in TAKEN])
def test_what_tars_may_be(tmp_path: Path, number: int) -> None:
    _, data, files = TAKEN[number]
    unpack(io.BytesIO(data), tmp_path, rootless=False)
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == files
    property_of_merge.run(data)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("form", ["v7", "ustar", "oldgnu", "gnu", "pax"])
def test_formats_of_gnu_tar(tmp_path: Path, form: str) -> None:
    """With hard links, links and large numbers of owners, all its formats say the same."""
    tree = tmp_path / "tree"
    (tree / "d/e").mkdir(parents=True)
    (tree / "d/f").write_bytes(b"x" * 1000)
    os.link(tree / "d/f", tree / "d/g")
    (tree / "d/s").symlink_to("../e")
    if form not in ("v7", "ustar"):
        (tree / "d" / ("n" * 230)).write_bytes(b"y")
        os.chown(tree / "d/f", 3_000_000, 3_000_000)
    subprocess.run(["tar", f"--format={form}", "-cf", tmp_path / "t.tar", "-C", tree, "."], check=True)
    target = tmp_path / "target"
    target.mkdir()
    unpack(io.BytesIO((tmp_path / "t.tar").read_bytes()), target, rootless=False)
    assert property_of_merge.tree(target) == property_of_merge.tree(tree)


def test_default_attributes_are_not_inherited(tmp_path: Path) -> None:
    """A directory's default ACL is for files made in there later, and none of the layer's own are."""
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 7, 0xFFFFFFFF) for tag in (1, 4, 0x20))
    data = make_tar([member("d", DIR, mode=0o2775, gid=7), member("d/e/f", content=b"x")])
    body = record(b"SCHILY.xattr.system.posix_acl_default", acl)
    unpack(io.BytesIO(extended(body) + data), tmp_path, rootless=False)
    assert "system.posix_acl_default" in os.listxattr(tmp_path / "d")
    assert os.listxattr(tmp_path / "d/e") == [] and os.listxattr(tmp_path / "d/e/f") == []
    found = (tmp_path / "d/e").stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0o755)


def test_attributes_of_the_machine_are_left_out(tmp_path: Path) -> None:
    """Overlayfs's own would hide or redirect what lies below; a label is another machine's."""
    keys = [b"trusted.overlay.redirect", b"trusted.overlay.opaque", b"user.overlay.whiteout", b"security.selinux"]
    body = b"".join(record(b"SCHILY.xattr." + key, b"y") for key in [*keys, b"user.kept"])
    data = extended(body) + raw(b"d", b"5") + END
    unpack(io.BytesIO(data), tmp_path, rootless=False)
    assert os.listxattr(tmp_path / "d") == ["user.kept"]
    sink = Collected()
    merge([io.BytesIO(data)], sink, False)
    assert b"user.kept" in sink.data and b"overlay" not in sink.data and b"selinux" not in sink.data
