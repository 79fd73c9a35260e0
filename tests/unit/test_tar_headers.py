"""tarstream: headers that Python's tarfile and GNU tar read back as what was meant, always in the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.tar_headers import Entry

_component = (
    st.binary(min_size=1, max_size=255)
    .map(lambda b: b.replace(b"\0", b"\n").replace(b"/", b"\xff"))
    .filter(lambda b: b not in (b".", b".."))
)
_name = st.lists(_component, min_size=1, max_size=4).map(b"/".join)
_xattrs = st.dictionaries(
    st.from_regex(rb"(user|security|trusted)\.[a-z._]{1,20}", fullmatch=True), st.binary(max_size=300), max_size=3
)
_number = st.integers(0, 1 << 40)


def read(data: bytes) -> List[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        return archive.getmembers()


def xattrs_of(info: tarfile.TarInfo) -> Dict[bytes, bytes]:
    prefix = "SCHILY.xattr."
    return {
        key[len(prefix) :].encode(): value.encode("utf-8", "surrogateescape")
        for key, value in info.pax_headers.items()
        if key.startswith(prefix)
    }


@given(
    name=_name,
    kind=st.sampled_from(
        [tar_headers.REGULAR, tar_headers.DIRECTORY, tar_headers.FIFO, tar_headers.CHARDEV, tar_headers.BLOCKDEV]
    ),
    mode=st.integers(0, 0o7777),
    uid=_number,
    gid=_number,
    size=_number,
    mtime=st.integers(-(1 << 40), 1 << 40),
    major=st.integers(0, 4095),
    minor=st.integers(0, (1 << 20) - 1),
    xattrs=_xattrs,
)
@example(b"n" * 99, tar_headers.DIRECTORY, 0, 0, 0, 0, 0, 0, 0, {})
@example(b"n" * 100, tar_headers.DIRECTORY, 0, (1 << 21) - 1, 1 << 21, 0, (1 << 33) - 1, 0, 0, {})
@example(b"n" * 100, tar_headers.REGULAR, 0, 0, 0, (1 << 33) - 1, 1 << 33, 0, 0, {})
@example(b"n" * 101, tar_headers.REGULAR, 0, 0, 0, 1 << 33, -1, 0, 0, {b"user.nul": b"a\0b\n\xff=\0"})
def test_every_field_survives(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    major: int,
    minor: int,
    xattrs: Dict[bytes, bytes],
) -> None:
    """Any name, number and attribute comes back from Python's tarfile as it went in."""
    size = size if kind == tar_headers.REGULAR else 0
    entry = Entry(name, kind, mode, uid, gid, size, mtime, b"", major, minor, xattrs)
    header = tar_headers.header(entry)
    assert len(header) % tar_headers.BLOCK == 0
    # Only the header is read: nobody has a file of 2**40 bytes.
    with tarfile.open(fileobj=io.BytesIO(header), encoding="utf-8", errors="surrogateescape") as archive:
        info = archive.next()
    assert info is not None
    assert os.fsencode(info.name) == name
    assert (info.type, info.mode, info.uid, info.gid, info.size, info.mtime) == (kind, mode, uid, gid, size, mtime)
    assert xattrs_of(info) == xattrs
    if kind in (tar_headers.CHARDEV, tar_headers.BLOCKDEV):
        assert (info.devmajor, info.devminor) == (major, minor)


@given(
    st.lists(
        st.tuples(_name, st.sampled_from([tar_headers.SYMLINK, tar_headers.HARDLINK]), _name), min_size=1, max_size=4
    )
)
def test_links_survive(links: List[Tuple[bytes, bytes, bytes]]) -> None:
    """Names and targets of links, of any length and bytes, several after each other."""
    data = (
        b"".join(tar_headers.header(Entry(name, kind, linkname=target)) for name, kind, target in links)
        + tar_headers.END
    )
    found = [(os.fsencode(info.name), info.type, os.fsencode(info.linkname)) for info in read(data)]
    assert found == [(name, kind, target) for name, kind, target in links]


@pytest.mark.parametrize("length", range(80, 120))
def test_extended_records_count_themselves(length: int) -> None:
    """A record's length is right also where adding its own digits makes it a digit longer."""
    record = tar_headers._record(b"path", b"x" * length)
    assert int(record.split(b" ", 1)[0]) == len(record)


def fixed_tree() -> bytes:
    """A small tree with one of everything."""
    out = [
        tar_headers.header(Entry(b"usr", tar_headers.DIRECTORY, 0o755, mtime=1)),
        tar_headers.header(Entry(b"usr/su", tar_headers.REGULAR, 0o4755, 0, 0, 3, 315532800)),
        b"abc" + tar_headers.padding(3),
        tar_headers.header(Entry(b"usr/su2", tar_headers.HARDLINK, 0o4755, linkname=b"usr/su")),
        tar_headers.header(Entry(b"usr/line\nfeed", tar_headers.SYMLINK, 0o777, linkname=b"t" * 300)),
        tar_headers.header(
            Entry(b"usr/\xff\xfe", tar_headers.REGULAR, 0o644, 1000, 1000, xattrs={b"user.b": b"\0\n", b"user.a": b""})
        ),
        tar_headers.header(Entry(b"usr/" + b"d" * 255, tar_headers.DIRECTORY, 0o700, 1 << 22, 5, mtime=9)),
        tar_headers.header(Entry(b"usr/fifo", tar_headers.FIFO, 0o600)),
        tar_headers.END,
    ]
    return b"".join(out)


def test_golden_bytes() -> None:
    """The bytes of a fixed tree never change: they are in everybody's caches and registries."""
    assert (
        hashlib.sha256(fixed_tree()).hexdigest() == "56a116439c48ea15d9fc433ecf7fccfb12a0a243f9b6233dab118311c93f5268"
    )


def test_attributes_are_sorted() -> None:
    """The order in which the kernel lists attributes does not show."""
    one = Entry(b"f", tar_headers.REGULAR, xattrs={b"user.a": b"1", b"user.b": b"2"})
    other = Entry(b"f", tar_headers.REGULAR, xattrs={b"user.b": b"2", b"user.a": b"1"})
    assert tar_headers.header(one) == tar_headers.header(other)


gnu_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")


def _tar(*arguments: str, data: bytes) -> bytes:
    done = subprocess.run(
        ["tar", *arguments],
        input=data,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@gnu_tar
def test_gnu_tar_lists_the_fixed_tree() -> None:
    listing = _tar("-tvf", "-", "--numeric-owner", data=fixed_tree()).decode().splitlines()
    assert len(listing) == 7
    assert listing[1].startswith("-rwsr-xr-x") and "1980" in listing[1]
    assert "usr/su2 link to usr/su" in listing[2]
    assert "usr/line\\nfeed -> " + "t" * 300 in listing[3]
    assert "4194304/5" in listing[5]


@gnu_tar
def test_gnu_tar_extracts_the_fixed_tree(tmp_path: Path, root_user: None) -> None:
    """Owners, modes, times, links, attributes and odd names arrive on disk."""
    _tar("-xpf", "-", "--xattrs", "--numeric-owner", "-C", os.fspath(tmp_path), data=fixed_tree())
    top = os.fsencode(tmp_path / "usr")
    assert sorted(os.listdir(top)) == sorted([b"su", b"su2", b"line\nfeed", b"\xff\xfe", b"d" * 255, b"fifo"])
    su = os.lstat(top + b"/su")
    assert (stat.S_IMODE(su.st_mode), su.st_nlink, int(su.st_mtime)) == (0o4755, 2, 315532800)
    assert os.readlink(top + b"/line\nfeed") == b"t" * 300
    odd = os.lstat(top + b"/\xff\xfe")
    assert (odd.st_uid, odd.st_gid) == (1000, 1000)
    assert os.getxattr(top + b"/\xff\xfe", b"user.b") == b"\0\n"
    long = os.lstat(top + b"/" + b"d" * 255)
    assert (long.st_uid, long.st_gid, int(long.st_mtime)) == (1 << 22, 5, 9)
    assert stat.S_ISFIFO(os.lstat(top + b"/fifo").st_mode)


@gnu_tar
@settings(max_examples=15)
@given(
    st.lists(st.tuples(_component, st.binary(max_size=1100)), min_size=1, max_size=5, unique_by=lambda item: item[0])
)
def test_gnu_tar_extracts_any_name(tmp_path_factory: pytest.TempPathFactory, files: List[Tuple[bytes, bytes]]) -> None:
    """Any file name that Linux takes, with content on and off block boundaries."""
    target = tmp_path_factory.mktemp("any")
    data = b"".join(
        tar_headers.header(Entry(name, tar_headers.REGULAR, size=len(content)))
        + content
        + tar_headers.padding(len(content))
        for name, content in files
    )
    _tar("-xf", "-", "-C", os.fspath(target), data=data + tar_headers.END)
    top = os.fsencode(target)
    found = {}
    for name in os.listdir(top):
        with open(os.path.join(top, name), "rb") as content:
            found[name] = content.read()
    assert found == dict(files)
