"""rewrite_rootfs: mmdebstrap's tar, written again so that nothing of the machine is left in it."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from opam_sandbox.building.rewrite_rootfs import rewrite_rootfs
from tests.unit.conftest import make_tar, member

PASSWD = b"root:x:0:0:root:/root:/bin/bash\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
PARTIAL = ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial")


def rewritten(directory: Path, members: List[Tuple[tarfile.TarInfo, bytes]]) -> bytes:
    (directory / "in.tar").write_bytes(make_tar(members))
    digest, entries = rewrite_rootfs(directory / "in.tar", directory / "out.tar", 1000)
    data = (directory / "out.tar").read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    with tarfile.open(directory / "out.tar") as archive:
        assert len(archive.getmembers()) == entries
    return data


def made_by_a_host(apt_uid: int) -> List[Tuple[tarfile.TarInfo, bytes]]:
    """What mmdebstrap makes where the host's `_apt` has this number."""
    directories = [member(f"./{name}", tarfile.DIRTYPE, uid=apt_uid, mode=0o700) for name in PARTIAL]
    return [member("./etc/passwd", content=PASSWD), *directories]


@pytest.mark.parametrize("uid", [0, 42, 100])
def test_the_hosts_accounts_do_not_show(tmp_path: Path, uid: int) -> None:
    data = rewritten(tmp_path, made_by_a_host(uid))
    assert data == rewritten(tmp_path, made_by_a_host(42))
    with tarfile.open(tmp_path / "out.tar") as archive:
        owners = {name: archive.getmember(name) for name in PARTIAL}
    assert {(entry.uid, entry.gid, entry.mode) for entry in owners.values()} == {(42, 0, 0o700)}


def test_a_root_without_apts_user(tmp_path: Path) -> None:
    rewritten(tmp_path, [member("./etc/passwd", content=b"root:x:0:0::/:/bin/sh\n"), *made_by_a_host(7)[1:]])
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getmember(PARTIAL[0]).uid == 0


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.BLKTYPE])
def test_what_a_base_does_not_hold(tmp_path: Path, kind: bytes) -> None:
    from opam_sandbox.errors import ToolError

    with pytest.raises(ToolError, match="usr/odd"):
        rewritten(tmp_path, [member("./usr/odd", kind)])


def test_what_the_host_leaves_is_dropped(tmp_path: Path) -> None:
    """Host name, resolver, logs, locks and device nodes; links and times are kept as they must be."""
    late: Any = {"mtime": 5000}
    rewritten(
        tmp_path,
        [
            member("./etc/hostname", content=b"build-machine-7\n"),
            member("./etc/resolv.conf", content=b"nameserver 192.0.2.1\n"),
            member("./var/log/dpkg.log", content=b"now"),
            member("./dev/null", tarfile.CHRTYPE),
            member("./usr/z", content=b"twice", **late),
            member("./usr/a", tarfile.LNKTYPE, linkname="./usr/z"),
        ],
    )
    with tarfile.open(tmp_path / "out.tar") as archive:
        names = set(archive.getnames())
        assert not names & {"etc/resolv.conf", "var/log/dpkg.log", "dev/null"}
        hostname = archive.extractfile("etc/hostname")
        assert hostname and hostname.read() == b"localhost\n"
        first, second = archive.getmember("usr/a"), archive.getmember("usr/z")
        assert first.isreg() and first.size == 5 and first.mtime == 1000
        assert second.islnk() and second.linkname == "usr/a"


def sparse() -> bytes:
    """An old GNU header of a file with a hole: 1 byte in the tar, 2**60 in the file."""
    info = tarfile.TarInfo("./usr/sparse")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 1
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 1)
    header[483:495] = b"\x80" + (1 << 60).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x".ljust(512, b"\0") + bytes(1024)


def plain(*members: Tuple[tarfile.TarInfo, bytes]) -> bytes:
    return make_tar(members)


WHOLE = plain(member("./usr/f", content=b"x" * 2000))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "cannot be read"),
        (b"nonsense" * 1000, "cannot be read"),
        (WHOLE[:1600], "ends in the middle of './usr/f'|cannot be read"),
        (plain(member("./usr/f", pax_headers={"size": "99999999999999999999"})), "cannot be read|ends in the middle"),
        (plain(member("./usr/f", pax_headers={"mtime": "nan"})), "cannot be read"),
        (plain(member("./usr/f", pax_headers={"mtime": "inf"})), "cannot be read"),
        (plain(member("./usr/f", pax_headers={"uid": "-5"})), "gives './usr/f' to nobody"),
        (plain(member("./usr/f", pax_headers={"gid": str(1 << 32)})), "gives './usr/f' to nobody"),
        (plain(member("./usr/f", pax_headers={"uid": "9" * 4000})), "gives './usr/f' to nobody"),
        (
            plain(member("./usr/a", tarfile.LNKTYPE, linkname="./usr/gone")),
            "'usr/a' as a name of 'usr/gone', which is no",
        ),
        (plain(member("./usr/a", tarfile.LNKTYPE, linkname="./usr/a")), "'usr/a' as a name of 'usr/a', which is no"),
        (
            plain(member("./tmp/f", content=b"x"), member("./usr/a", tarfile.LNKTYPE, linkname="./tmp/f")),
            "'usr/a' as a name of 'tmp/f', which is no",
        ),
        (sparse(), "'./usr/sparse', which is neither|'usr/sparse', which is neither|ends in the middle"),
        (
            plain(member("./etc/passwd", content=b"_apt:x\n"), member(f"./{PARTIAL[0]}", tarfile.DIRTYPE)),
            "no number: '_apt:x'",
        ),
        (
            plain(member("./etc/passwd", content=b"_apt:x:4x:5\n"), member(f"./{PARTIAL[0]}", tarfile.DIRTYPE)),
            "no number: '_apt:x:4x:5'",
        ),
    ],
    ids=range(15),
)
def test_tars_that_nothing_can_be_made_of(tmp_path: Path, data: bytes, problem: str) -> None:
    from opam_sandbox.errors import ToolError

    (tmp_path / "in.tar").write_bytes(data)
    with pytest.raises(ToolError, match=problem) as raised:
        rewrite_rootfs(tmp_path / "in.tar", tmp_path / "out.tar", 1000)
    assert len(str(raised.value)) < 500


def test_accounts_that_are_a_link(tmp_path: Path) -> None:
    """It may lead anywhere: there is no number in it."""
    link = member("./etc/passwd", tarfile.SYMTYPE, linkname="shadow")
    rewritten(
        tmp_path, [link, member("./etc/shadow", content=PASSWD), member(f"./{PARTIAL[0]}", tarfile.DIRTYPE, uid=7)]
    )
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getmember(PARTIAL[0]).uid == 0


def test_a_link_that_has_several_names(tmp_path: Path) -> None:
    link = member("./usr/z", tarfile.SYMTYPE, linkname="target")
    rewritten(tmp_path, [link, member("./usr/a", tarfile.LNKTYPE, linkname="./usr/z")])
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getmember("usr/a").linkname == "target" and archive.getmember("usr/z").linkname == "usr/a"
