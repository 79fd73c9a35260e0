"""unpack: hostile and damaged archives end in a ToolError, and nothing is ever written outside of the target."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opam_sandbox.errors import ToolError
from opam_sandbox.layer.unpack import unpack
from tests.unit.conftest import make_tar, member

pytestmark = pytest.mark.usefixtures("root_user")

Member = Tuple[tarfile.TarInfo, bytes]
DIR, SYM, LNK, FIFO, CHR = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE


class World:
    """A target directory, and beside it a canary that must stay as it is."""

    def __init__(self, top: Path) -> None:
        self.target = top / "target"
        self.outside = top / "outside"
        self.target.mkdir()
        self.outside.mkdir()
        (self.outside / "canary").write_text("alive")
        self._top = top

    def unpack(self, *members: Member) -> int:
        return unpack(io.BytesIO(make_tar(members)), self.target, rootless=False)

    def check_canary(self) -> None:
        assert sorted(os.listdir(self._top)) == ["outside", "target"]
        assert os.listdir(self.outside) == ["canary"]
        assert (self.outside / "canary").read_text() == "alive"
        status = (self.outside / "canary").stat()
        assert (status.st_nlink, stat.S_IMODE(status.st_mode), status.st_uid) == (1, 0o644, 0)


@pytest.fixture
def world(tmp_path: Path) -> "World":
    return World(tmp_path)


def _hostile(outside: str) -> List[Tuple[str, List[Member]]]:
    return [
        ("absolute name", [member(f"{outside}/x", content=b"x")]),
        ("absolute directory", [member(f"{outside}/x", DIR)]),
        ("dots", [member("../outside/x", content=b"x")]),
        ("dots within", [member("a/../../outside/x", content=b"x")]),
        ("dots directory", [member("..", DIR, mode=0o777)]),
        ("dots whiteout", [member("../outside/.wh.canary")]),
        ("through a symlink", [member("a", SYM, linkname=outside), member("a/x", content=b"x")]),
        ("through a relative symlink", [member("a", SYM, linkname="../outside"), member("a/x", content=b"x")]),
        ("directory through a symlink", [member("a", SYM, linkname=outside), member("a/d", DIR)]),
        ("deep through a symlink", [member("a", SYM, linkname=outside), member("a/d/e/f", content=b"x")]),
        (
            "through a symlink that was a file's parent",
            [member("a/b", content=b"x"), member("a/b", SYM, linkname=outside), member("a/b/x", content=b"x")],
        ),
        ("symlink in place of a directory", [member("a", DIR), member("a", SYM, linkname=outside), member("a/x")]),
        ("hard link in place of a directory", [member("f"), member("a", DIR), member("a", LNK, linkname="f")]),
        ("whiteout through a symlink", [member("a", SYM, linkname=outside), member("a/.wh.canary")]),
        ("opaque through a symlink", [member("a", SYM, linkname=outside), member("a/.wh..wh..opq")]),
        ("hard link outside", [member("a", LNK, linkname="../outside/canary")]),
        ("hard link to an absolute name", [member("a", LNK, linkname=f"{outside}/canary")]),
        ("hard link through a symlink", [member("s", SYM, linkname=outside), member("a", LNK, linkname="s/canary")]),
        ("hard link of nothing", [member("a", LNK, linkname="nothing")]),
        ("hard link of a directory", [member("d", DIR), member("a", LNK, linkname="d")]),
        ("hard link of the root", [member("a", LNK, linkname=".")]),
        ("hard link to itself", [member("a", LNK, linkname="a")]),
        ("fifo through a symlink", [member("a", SYM, linkname=outside), member("a/f", FIFO)]),
        ("device through a symlink", [member("a", SYM, linkname=outside), member("a/f", CHR, devmajor=1, devminor=3)]),
        ("root is a file", [member(".", content=b"x")]),
        ("root is a symlink", [member(".", SYM, linkname=outside)]),
        ("root is a hard link", [member("f"), member("./", LNK, linkname="f")]),
        ("directory, then file", [member("a", DIR), member("a", content=b"x")]),
        ("file, then below it", [member("a", content=b"x"), member("a/b", content=b"x")]),
        ("below a fifo", [member("a", FIFO), member("a/b", content=b"x")]),
        ("whiteout of nothing", [member("a/.wh.")]),
        ("whiteout of .", [member("a/.wh..")]),
        ("whiteout of ..", [member("a/.wh...")]),
        ("unknown type", [member("a", b"Q")]),
        ("long component", [member("n" * 300, content=b"x")]),
        ("NUL in a name", [member("a", content=b"x", pax_headers={"path": "a\0b"})]),
        ("NUL in an attribute's name", [member("a", content=b"x", pax_headers={"SCHILY.xattr.user.a\0b": "1"})]),
        ("attribute of no known kind", [member("a", content=b"x", pax_headers={"SCHILY.xattr.nonsense": "1"})]),
        ("endless time", [member("a", content=b"x", pax_headers={"mtime": "1e400"})]),
        ("no number", [member("a", DIR, pax_headers={"mtime": "nan"})]),
        ("huge owner", [member("a", content=b"x", pax_headers={"uid": str(1 << 70)})]),
        ("negative size", [member("a", content=b"x", pax_headers={"size": "-512"}), member("b")]),
    ]


@pytest.mark.parametrize("number", range(len(_hostile(""))), ids=[name for name, _ in _hostile("")])
def test_hostile_archives_are_refused(world: World, number: int) -> None:
    """Each of these is a ToolError, with the canary unharmed."""
    with pytest.raises(ToolError):
        world.unpack(*_hostile(os.fspath(world.outside))[number][1])
    world.check_canary()


_paths = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh."]), min_size=1, max_size=3
).map("/".join)
_targets = st.sampled_from(
    ["a", "b", "a/b", "..", "../outside", "../outside/canary", "/", ".", "a/../../outside", "OUTSIDE"]
)
_members = st.tuples(_paths, st.sampled_from([tarfile.REGTYPE, DIR, SYM, LNK, FIFO]), _targets)


@settings(max_examples=250)
@given(st.lists(_members, min_size=1, max_size=6))
def test_any_sequence_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, entries: List[Tuple[str, bytes, str]]
) -> None:
    """Whatever entries follow each other: ToolError or success, and the canary lives."""
    world = World(tmp_path_factory.mktemp("any"))
    outside = os.fspath(world.outside)
    members = [
        member(
            name or ".", kind, b"evil" if kind == tarfile.REGTYPE else b"", linkname=target.replace("OUTSIDE", outside)
        )
        for name, kind, target in entries
    ]
    try:
        world.unpack(*members)
    except ToolError:
        pass
    world.check_canary()


def _sample() -> bytes:
    return make_tar(
        [
            member("d", DIR),
            member("d/one", content=b"1" * 700),
            member("d/" + "n" * 200, content=b"2" * 512, pax_headers={"SCHILY.xattr.user.a": "b"}),
            member("d/s", SYM, linkname="t" * 200),
            member("d/two", content=b"3" * 2000),
        ]
    )


def test_truncated_archives_are_refused(tmp_path: Path) -> None:
    """Cut anywhere, at block boundaries and inside of headers and contents, an archive is an error."""
    data = _sample()
    end = len(data.rstrip(b"\0"))
    end += -end % 512
    for length in sorted({*range(0, end + 1, 512), *range(100, end, 1000), end - 1}):
        target = tmp_path / str(length)
        target.mkdir()
        with pytest.raises(ToolError):
            unpack(io.BytesIO(data[:length]), target, rootless=False)


@settings(max_examples=100)
@given(at=st.integers(0, 4095), byte=st.integers(0, 255))
def test_damaged_archives_never_crash(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    """One wrong byte: a ToolError, or a harmless difference."""
    data = bytearray(_sample())
    data[at] = byte
    try:
        unpack(io.BytesIO(bytes(data)), tmp_path_factory.mktemp("damaged"), rootless=False)
    except ToolError:
        pass


def test_a_damaged_header_is_not_the_end(world: World) -> None:
    """What follows a header with a wrong checksum is not silently left out."""
    data = bytearray(make_tar([member("a", content=b"x"), member("b", content=b"y")]))
    data[1024] ^= 1
    with pytest.raises(ToolError, match="damaged"):
        unpack(io.BytesIO(bytes(data)), world.target, rootless=False)


def test_the_last_of_two_entries_counts(world: World) -> None:
    """Two files, or a file and then a directory, of one name: as every other tool does, the last one stays."""
    assert (
        world.unpack(member("a", content=b"1"), member("a", content=b"2"), member("b", content=b"x"), member("b", DIR))
        == 4
    )
    assert (world.target / "a").read_bytes() == b"2"
    assert (world.target / "b").is_dir()


def test_a_name_written_anew_leaves_its_hard_link_alone(world: World) -> None:
    """A second entry makes a new file rather than writing into an inode that has other names."""
    world.unpack(member("a", content=b"1"), member("b", LNK, linkname="a"), member("b", content=b"2"))
    assert (world.target / "a").read_bytes() == b"1"
    assert (world.target / "b").read_bytes() == b"2"


def test_a_symlink_is_replaced_and_not_followed(world: World) -> None:
    """A file or a directory over a symlink: the link goes, its target is not touched."""
    canary = os.fspath(world.outside / "canary")
    world.unpack(
        member("f", SYM, linkname=canary),
        member("f", content=b"new", mode=0o4777, uid=5),
        member("d", SYM, linkname=os.fspath(world.outside)),
        member("d", DIR, mode=0o777, uid=5),
        member("h", LNK, linkname="f"),
        member("s", SYM, linkname=canary, uid=7, mtime=5),
    )
    world.check_canary()
    assert (world.target / "f").read_bytes() == b"new"
    assert not (world.target / "d").is_symlink()
    assert (world.target / "s").lstat().st_uid == 7


def test_a_hard_link_to_a_symlink_is_to_the_symlink(world: World) -> None:
    world.unpack(member("s", SYM, linkname=os.fspath(world.outside / "canary")), member("h", LNK, linkname="s"))
    world.check_canary()
    assert (world.target / "h").is_symlink()
    assert (world.target / "h").lstat().st_ino == (world.target / "s").lstat().st_ino


def test_root_entry(world: World) -> None:
    """`./` sets the target's own mode, owner and time, as tar archives of whole roots want."""
    world.unpack(member("./", DIR, mode=0o750, uid=3, mtime=77), member("./a", content=b"x"))
    status = world.target.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, int(status.st_mtime)) == (0o750, 3, 77)


def test_devices_and_modes(world: World) -> None:
    """Device nodes, set-uid bits after the owner, times of directories after their contents."""
    world.unpack(
        member("null", CHR, devmajor=1, devminor=3, mode=0o666),
        member("d", DIR, mode=0o1777, mtime=99),
        member("d/su", content=b"x", mode=0o6755, uid=1000, gid=1000),
        member("p", FIFO),
    )
    assert (world.target / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((world.target / "d/su").stat().st_mode) == 0o6755
    assert int((world.target / "d").stat().st_mtime) == 99
    assert stat.S_IMODE((world.target / "d").stat().st_mode) == 0o1777


def test_parents_without_an_entry(world: World) -> None:
    """Some archives leave directories out; they are made, readable by all."""
    world.unpack(member("a/b/c", content=b"x"))
    assert (world.target / "a/b/c").read_bytes() == b"x"
    assert stat.S_IMODE((world.target / "a/b").stat().st_mode) == 0o755


def test_whiteouts(world: World) -> None:
    """`.wh.NAME` becomes overlayfs's device 0:0, `.wh..wh..opq` its attribute."""
    world.unpack(member("d", DIR), member("d/.wh.x\ny"), member("o", DIR), member("o/.wh..wh..opq"), member("o/f"))
    status = (world.target / "d" / "x\ny").lstat()
    assert stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    assert os.getxattr(world.target / "o", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(world.target / "o")) == ["f"]


@pytest.mark.parametrize("order", [0, 1])
def test_a_whiteout_hides_only_what_lies_below(world: World, order: int) -> None:
    """A layer may delete a name and put a new thing there, in either order: a file stays, a directory becomes opaque."""
    pairs = [[member(".wh.f"), member("f", content=b"new")], [member(".wh.d"), member("d", DIR)]]
    world.unpack(*(one for pair in pairs for one in (pair if order == 0 else reversed(pair))))
    assert (world.target / "f").read_bytes() == b"new"
    assert os.getxattr(world.target / "d", "trusted.overlay.opaque") == b"y"


def test_overlayfs_attributes_in_an_archive_are_ignored(world: World) -> None:
    """No archive may redirect or hide what lies below by overlayfs's own attributes."""
    world.unpack(
        member(
            "d",
            DIR,
            pax_headers={
                "SCHILY.xattr.trusted.overlay.redirect": "/etc",
                "SCHILY.xattr.trusted.overlay.opaque": "y",
                "SCHILY.xattr.user.kept": "1",
            },
        )
    )
    assert os.listxattr(world.target / "d") == ["user.kept"]


def test_rootless_leaves_devices_out(world: World) -> None:
    """For a user: no devices, no owners, overlayfs's attributes in the user's own name space."""
    data = make_tar([member("n", CHR, devmajor=1, devminor=3), member("d", DIR, uid=5), member("d/.wh..wh..opq")])
    assert unpack(io.BytesIO(data), world.target, rootless=True) == 3
    assert os.listdir(world.target) == ["d"]
    assert (world.target / "d").stat().st_uid == os.getuid()
    assert os.getxattr(world.target / "d", "user.overlay.opaque") == b"y"


def test_a_user_fills_directories_that_are_closed_to_him(tmp_path: Path) -> None:
    """What is in a directory that its owner may not enter or write is made all the same, and the modes are right in the end."""
    members = []
    for number, mode in enumerate((0o000, 0o555, 0o500, 0o777)):
        directory = f"d{number}"
        members += [
            member(directory, tarfile.DIRTYPE, mode=mode),
            member(f"{directory}/inner", tarfile.DIRTYPE, mode=mode),
            member(f"{directory}/inner/f", content=b"x", mode=0),
            member(f"{directory}/g", content=b"x"),
        ]
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.chown(tmp_path, 47010, 47010)
                os.chmod(tmp_path, 0o755)
                os.chdir(tmp_path)
                os.setresgid(47010, 47010, 47010)
                os.setresuid(47010, 47010, 47010)
            os._exit(0 if unpack(io.BytesIO(make_tar(members)), Path("."), rootless=True) == 16 else 2)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    modes = [
        stat.S_IMODE((tmp_path / f"d{number}" / name).stat().st_mode) for number in range(4) for name in ("", "inner")
    ]
    if os.geteuid() == 0:
        assert modes == [0o000, 0o000, 0o555, 0o555, 0o500, 0o500, 0o777, 0o777]
        assert (tmp_path / "d0/inner/f").read_bytes() == b"x" and (tmp_path / "d1/g").read_bytes() == b"x"
