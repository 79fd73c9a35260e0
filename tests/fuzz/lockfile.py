"""Lockfiles, as the backend reads them: both kinds."""

from __future__ import annotations

from typing import List

from opam_oci.resolves.lockfile import DebianLock, LockfileError, OpamLock
from opam_oci.resolves.lockfile_reader import read_debian_lock, read_opam_lock

_SHA = b"ab" * 32

SEEDS: List[bytes] = [
    b"""[metadata]
lock_version = 1
tables = 6
kind = "opam"
resolve = "default"
base = "//3rdparty/debian:trixie"
requirements = ["b"]
constraints = ["a>=1,<2"]
repositories = ["overlay tree:00"]
options = ["prefer_oldest"]

[[package]]
name = "a"
version = "1.2~beta1"
depends = []
post_depends = ["b"]
depexts = ["gcc"]
debs = ["gcc"]
opam = \"\"\"
opam-version: "2.0"
x: \\"\\"\\"text\\u0041\\"\\"\\"
\"\"\"

[[package.source]]
name = ""
urls = ["https://example.org/a.tgz", "debian:pool/a.orig.tar.gz"]
sha256 = "%s"
size = 7

[[package]]
name = "b"
version = "2"
depends = ["a"]
post_depends = []
test_depends = ["a"]
depexts = []
depexts_out_of_reach = "no x"
debs = []
opam_base64 = "/w=="

[[package.source_out_of_reach]]
name = "p"
urls = ["https://example.org/p"]
checksums = ["md5=00"]

[[package.file]]
path = "d/f"
content = '''x'''

[[deb]]
name = "gcc"
version = "4:14.2.0-1"
architecture = "amd64"
path = "pool/main/g/gcc.deb"
sha256 = "%s"
size = 5
"""
    % (_SHA, _SHA),
    b"""[metadata]
lock_version = 1
tables = 1
kind = "debian"
resolve = "default"
suite = "trixie"
architecture = "amd64"
packages = ["gcc"]

[[deb]]
name = "gcc"
version = "4:14.2.0-1"
architecture = "amd64"
path = "pool/main/g/gcc.deb"
sha256 = "%s"
size = 5
"""
    % _SHA,
    b'[metadata]\nlock_version = 1\nkind = "%s"\n' % (b"x" * 5000),
    b'metadata = {lock_version = 0x1, kind = "opam", a.b.c = [[1.5, 1979-05-27T07:32:00Z, nan], {x = true}]}\n',
]
TOKENS = b"""
[metadata] [[package]] [[package.file]] [[deb]] name = version = size = depends = ["a"] ["b"] opam = path = 0x 0o7 0b1 1e9 inf
1979-05-27 07:32:00 a.b.c {a = 1} ''' \\"\\"\\" \\\\u0000 \\\\U0010FFFF \\\\ud800 # , true tables = "../x" "/x" content_base64 =
""".split()


def run(data: bytes) -> None:
    opam = _read_opam(data)
    if opam is not None:
        _check(opam)
    debian = _read_debian(data)
    assert opam is None or debian is None
    if debian is not None:
        assert all(deb.size >= 0 and len(deb.sha256) == 64 for deb in debian.debs.values())


def _read_opam(data: bytes) -> "OpamLock | None":
    try:
        return read_opam_lock("dir/x.lock", "default", data)
    except LockfileError as error:
        _check_error(error)
        return None


def _read_debian(data: bytes) -> "DebianLock | None":
    try:
        return read_debian_lock("dir/x.lock", "default", data)
    except LockfileError as error:
        _check_error(error)
        return None


def _check_error(error: LockfileError) -> None:
    text = str(error)
    assert text.startswith("The lockfile dir/x.lock: ") and "generate-lockfiles --resolve=default" in text
    assert len(text) < 3000, len(text)


def _check(lock: OpamLock) -> None:
    """What builds rely on."""
    order = lock.in_build_order(lock.packages)
    place = {name: number for number, name in enumerate(order)}
    assert len(order) == len(lock.packages)
    posts = lock.acyclic_post_depends()
    for name, package in lock.packages.items():
        assert all(place[below] < place[name] for below in package.depends)
        assert set(posts[name]) <= set(package.post_depends)
        assert "/" not in package.full_name and len(package.full_name) < 255
        assert all(len(source.sha256) == 64 and 0 <= source.size < 1 << 63 for source in package.sources)
        for path in (*(file.path for file in package.files), *(source.name for source in package.sources)):
            assert not path.startswith("/") and ".." not in path.split("/") and len(path.encode()) < 4000
