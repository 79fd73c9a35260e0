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
