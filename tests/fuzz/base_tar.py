"""mmdebstrap's tar, in which maintainer scripts had a hand: written again whole, or refused. And .debs' control fields."""

from __future__ import annotations

import io
import tarfile
from typing import Any, List

from opam_sandbox.building import mmdebstrap
from opam_sandbox.building.rewrite_rootfs import rewrite_rootfs
from opam_sandbox.errors import ToolError
from opam_sandbox.layer import ownership
from tests.fuzz._places import place


def _tar(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        rows: Any = (
            ("./etc", tarfile.DIRTYPE, b"", "", {}),
            ("./etc/passwd", tarfile.REGTYPE, b"root:x:0:0::/:/bin/sh\n_apt:x:42:65534::/:/bin/sh\n", "", {}),
            ("./var/cache/apt/archives/partial", tarfile.DIRTYPE, b"", "", {}),
            ("./usr/b", tarfile.REGTYPE, b"twice", "", {"SCHILY.xattr.user.x": "y"}),
            ("./usr/a", tarfile.LNKTYPE, b"", "./usr/b", {}),
            ("./bin", tarfile.SYMTYPE, b"", "usr/bin", {}),
            ("./usr/" + "n" * 120, tarfile.REGTYPE, b"", "", {"mtime": "1.5"} if form == tarfile.PAX_FORMAT else {}),
        )
        for name, kind, content, link, headers in rows:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname, info.mtime = kind, len(content), link, 7
            info.pax_headers = headers
            archive.addfile(info, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return out.getvalue()


SEEDS: List[bytes] = [
    _tar(tarfile.PAX_FORMAT),
    _tar(tarfile.GNU_FORMAT),
    b"Package: a\nFilename: ../x\nSize: 1\n y\nZ: 1\n",
]
TOKENS = [
    b"./",
    b"../",
    b"17 size=99999999\n",
    b"12 uid=-55\n",
    b"15 mtime=1e999\n",
    b"20 path=../../../x/\n",
    b"ustar\x0000",
]
TOKENS += [
    b"\x80\0\0\0\0\0\0\1",
    b"\xff" * 8,
    b"GNU.sparse.map=0,1",
    b"26 GNU.sparse.size=123456\n",
    b"S",
    b"x",
    b"g",
    b"L",
]


def run(data: bytes) -> None:
    directory = place("tar")
    source, target = directory / "in.tar", directory / "out.tar"
    source.write_bytes(data)
    try:
        digest, entries = rewrite_rootfs(source, target, 100)
    except ToolError:
        pass
    else:
        with tarfile.open(target) as archive:
            members = archive.getmembers()
        assert len(members) == entries and len(digest) == 64
        names = [member.name for member in members]
        assert all(member.mtime <= 100 and member.uid >= 0 and member.gid >= 0 for member in members)
        assert all(member.linkname in names for member in members if member.islnk())
        assert target.stat().st_size < 4 * len(data) + 40000
    kept = mmdebstrap._own_fields(data)
    assert not any(line.lower().startswith(b"filename:") for line in kept.split(b"\n"))
    for path in data.split(b"\0"):
        ownership.owner(path)
        ownership.is_shared(path, False)
        ownership.is_repository_cache(path)
