"""Java's keystore of trusted certificates gets one date, and nothing else of it changes."""

from __future__ import annotations

import hashlib
import struct
import tarfile
from pathlib import Path
from typing import Sequence, Tuple

import pytest

from opam_sandbox import java_keystore
from opam_sandbox.building.rewrite_rootfs import rewrite_rootfs
from tests.unit.conftest import make_tar, member

EPOCH = 315532800
# Tag, name, milliseconds, certificate.
Entry = Tuple[int, str, int, bytes]
ENTRIES: Sequence[Entry] = [
    (2, "debian:one.pem", 1796000000123, b"\x30\x01"),
    (2, "ünï", 7, b""),
    (2, "c", -1, b"c" * 70000),
]


def keystore(entries: Sequence[Entry], password: str = "changeit", version: int = 2, more: bytes = b"") -> bytes:
    """As sun.security.provider.JavaKeyStore.engineStore writes it."""
    content = struct.pack(">III", 0xFEEDFEED, version, len(entries))
    for tag, name, date, certificate in entries:
        content += struct.pack(">IH", tag, len(name.encode())) + name.encode() + struct.pack(">q", date)
        content += struct.pack(">H", 5) + b"X.509" + struct.pack(">I", len(certificate)) + certificate
    content += more
    return content + hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + content).digest()


def test_dates_are_one_and_the_digest_is_right() -> None:
    expected = keystore([(tag, name, EPOCH * 1000, data) for tag, name, _, data in ENTRIES])
    assert java_keystore.dated(keystore(ENTRIES), EPOCH) == expected
    assert java_keystore.dated(expected, EPOCH) == expected
    assert java_keystore.dated(keystore([]), EPOCH) == keystore([])


WHOLE = keystore(ENTRIES)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        WHOLE[:12],
        WHOLE[:-1],
        WHOLE[:40] + b"X" + WHOLE[41:],
        keystore(ENTRIES, password="another"),
        keystore(ENTRIES, version=1),
        keystore(ENTRIES, more=b"x"),
        keystore([(1, "a key", 7, b"")]),
        keystore([], more=b"")[:8],
        b"0\x82\x01\x00" + b"PKCS12" * 20,
    ],
)
def test_what_is_not_such_a_store_stays(content: bytes) -> None:
    assert java_keystore.dated(content, EPOCH) is None


def test_lengths_that_lead_out_of_the_store() -> None:
    content = struct.pack(">III", 0xFEEDFEED, 2, 1) + struct.pack(">IH", 2, 60000)
    digest = hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + content).digest()
    assert java_keystore.dated(content + digest, EPOCH) is None


def test_of_a_view(tmp_path: Path) -> None:
    java_keystore.settle(tmp_path, EPOCH)
    path = tmp_path / java_keystore.PATH
    path.parent.mkdir(parents=True)
    for content in (WHOLE, b"another kind"):
        path.write_bytes(content)
        path.chmod(0o640)
        java_keystore.settle(tmp_path, EPOCH)
        assert path.read_bytes() == (java_keystore.dated(content, EPOCH) or content)
        assert path.stat().st_mode & 0o777 == 0o640


def test_of_a_base(tmp_path: Path) -> None:
    """And what is not a machine's stays in it, such as a directory whose access list no tar has."""
    entries = [
        member(f"./{java_keystore.PATH}", content=WHOLE),
        member("./var/log/journal", tarfile.DIRTYPE, mode=0o2755),
        member("./etc/ssl/java.txt", content=WHOLE),
    ]
    (tmp_path / "in.tar").write_bytes(make_tar(entries))
    rewrite_rootfs(tmp_path / "in.tar", tmp_path / "out.tar", EPOCH)
    with tarfile.open(tmp_path / "out.tar") as archive:
        contents = [archive.extractfile(name) for name in (java_keystore.PATH, "etc/ssl/java.txt")]
        assert [one and one.read() for one in contents] == [java_keystore.dated(WHOLE, EPOCH), WHOLE]
        assert archive.getmember("var/log/journal").mode == 0o2755
