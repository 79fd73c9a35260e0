"""capture and unpack: what a build changes in an overlay comes back the same when its layer is stacked again."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import tarfile
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import ownership
from opam_sandbox.layer.capture import EPOCH, capture
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.sandbox.overlay import Overlay
from tests.unit.conftest import Collected, Namespaces

# A file capability as the kernel stores it: version 2, effective, CAP_NET_BIND_SERVICE permitted.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
Snapshot = Dict[bytes, Tuple[object, ...]]
Work = Callable[[Path], None]


def as_root_owned(path: bytes, _: os.stat_result) -> Tuple[int, int]:
    return ownership.owner(path)


def capture_tree(
    root: Path, lower: Sequence[bytes] = (), skip: Callable[[bytes, bool], bool] = ownership.is_shared
) -> bytes:
    sink = Collected()
    capture(root, Rules(skip=skip, owner=as_root_owned, lower=lower), sink)
    return sink.data


def names(data: bytes) -> List[str]:
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        return archive.getnames()


def snapshot(root: Path) -> Snapshot:
    """Everything of a merged view that a layer has to keep, but for shared state."""
    result: Snapshot = {}
    first: Dict[int, bytes] = {}
    top = os.fsencode(root)

    def visit(relative: bytes) -> None:
        for name in sorted(os.listdir(os.path.join(top, relative))):
            path = os.path.join(relative, name)
            full = os.path.join(top, path)
            if ownership.is_shared(path, stat.S_ISDIR(os.lstat(full).st_mode)):
                continue
            status = os.lstat(full)
            kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
            attributes = tuple(
                (key, os.getxattr(full, key, follow_symlinks=False))
                for key in sorted(os.listxattr(full, follow_symlinks=False))
            )
            content: object = None
            if stat.S_ISREG(kind):
                with open(full, "rb") as file:
                    content = file.read(), first.setdefault(status.st_ino, path), min(int(status.st_mtime), EPOCH)
            elif stat.S_ISLNK(kind):
                content = os.readlink(full)
            elif stat.S_ISCHR(kind):
                content = status.st_rdev
            result[path] = (kind, mode, status.st_uid, status.st_gid, attributes, content)
            if stat.S_ISDIR(kind):
                visit(path)

    visit(b"")
    return result


def make_lower(root: Path) -> None:
    for name in ("dev", "proc", "tmp"):
        (root / name).mkdir(parents=True)


def build_and_stack(lower: List[Path], works: Sequence[Work]) -> Tuple[List[bytes], Snapshot, Snapshot]:
    """Run each of `works` over what the earlier ones left, as layers; the view after the last one, built and stacked anew."""
    layers = list(lower)
    archives: List[bytes] = []
    built: Snapshot = {}
    with tempfile.TemporaryDirectory(dir=os.path.dirname(lower[0])) as directory:
        for number, work in enumerate(works):
            overlay = Overlay(layers, Path(directory, f"build-{number}"), rootless=False)
            overlay.mount()
            work(overlay.root)
            built = snapshot(overlay.root)
            overlay.unmount()
            archives.append(capture_tree(overlay.upper, overlay.lower))
            overlay.remove()
            layer = Path(directory, f"layer-{number}")
            layer.mkdir()
            unpack(io.BytesIO(archives[-1]), layer, rootless=False)
            layers.append(layer)
        overlay = Overlay(layers, Path(directory, "again"), rootless=False)
        overlay.mount()
        stacked = snapshot(overlay.root)
        overlay.remove()
    for shown in (built, stacked):
        shown.pop(b"etc/hosts", None)  # of no layer
    return archives, built, stacked


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    """A lower layer with something to delete, replace and copy up."""
    root = tmp_path / "lower"
    make_lower(root)
    for name in ("usr/bin", "usr/lib/deep/er", "replaced/inner", "gone/sub", "home/opam", "var/lib/dpkg/info"):
        (root / name).mkdir(parents=True)
    for name in (
        "usr/bin/tool",
        "usr/lib/deep/er/file",
        "replaced/old",
        "replaced/inner/old",
        "gone/sub/file",
        "delete-me",
    ):
        (root / name).write_text(name)
    (root / "line\nfeed").write_text("odd")
    (root / "var/lib/dpkg/status").write_text("Package: base\n")
    return root


def change_everything(root: Path) -> None:
    """One of each kind of change."""
    (root / "delete-me").unlink()
    (root / "line\nfeed").unlink()
    shutil.rmtree(root / "gone")
    shutil.rmtree(root / "replaced")
    (root / "replaced/inner").mkdir(parents=True)  # opaque; `inner` is empty now, and must be there nevertheless
    (root / "replaced/new").write_text("new")
    (root / "usr/bin/tool").write_text("changed")
    (root / "usr/bin/su").write_text("su")
    os.chmod(root / "usr/bin/su", 0o4755)
    os.link(root / "usr/bin/su", root / "usr/bin/su-too")
    os.setxattr(root / "usr/bin/su", "security.capability", CAPABILITY)
    os.setxattr(root / "usr/bin/tool", "user.comment", b"a\0b\n\xff")
    os.symlink("t" * 400, root / "usr/long-link")
    os.link(root / "usr/long-link", root / "usr/long-link-too", follow_symlinks=False)
    os.mkfifo(root / "usr/fifo", 0o640)
    os.mkdir(root / "usr/empty", 0o1777)
    os.chmod(root / "usr/empty", 0o1777)
    deep = root / "usr"
    for _ in range(12):
        deep = deep / ("d" * 120)
        deep.mkdir()
    (deep / "leaf").write_bytes(b"leaf")
    with open(os.path.join(os.fsencode(root), b"usr", b"\xff\xfe\n"), "wb") as odd:
        odd.write(b"x" * 512)
    (root / "home/opam/file").write_text("opam's")
    os.chown(root / "home/opam/file", 1000, 1000)
    os.chown(root / "home/opam", 1000, 1000)
    # Shared state: nobody's layer.
    (root / "var/lib/dpkg/status").write_text("Package: base\nPackage: more\n")
    (root / "var/log").mkdir()
    (root / "var/log/dpkg.log").write_text("today")
    (root / "var/cache/thing").mkdir(parents=True)
    (root / "var/cache/thing/file").write_text("cached")
    (root / "etc").mkdir()
    (root / "etc/ld.so.cache").write_text("cache")
    (root / "tmp/scratch").write_text("scratch")


def test_round_trip(namespaces: Namespaces, lower: Path) -> None:
    """Unpacked and stacked over the same lower layers, the captured layer shows what the build saw."""
    archives, built, stacked = namespaces(lambda: build_and_stack([lower], [change_everything]))
    # /etc was made by the build and holds nothing but shared state.
    assert {path for path in built if path not in stacked} == set()
    assert stacked == built
    found = names(archives[0])
    seen = set(found)
    assert len(seen) == len(found)
    for name in (".wh.delete-me", ".wh.line\nfeed", ".wh.gone", "replaced/.wh..wh..opq", "replaced/inner", "usr/empty"):
        assert name in found
    assert not [name for name in found if "dpkg" in name or name.startswith(("tmp", "proc", "dev"))]
    assert "etc/ld.so.cache" not in found
    assert "var/log" in found and "var/cache/thing" in found  # directories may be a package's
    assert "var/log/dpkg.log" not in found and "var/cache/thing/file" not in found  # files there never are


def test_set_uid_and_attributes_are_in_the_archive(namespaces: Namespaces, lower: Path) -> None:
    """Modes, capabilities, hard links: as tar says them."""
    archives, _, _ = namespaces(lambda: build_and_stack([lower], [change_everything]))
    with tarfile.open(fileobj=io.BytesIO(archives[0]), encoding="utf-8", errors="surrogateescape") as archive:
        su = archive.getmember("usr/bin/su")
        assert su.mode == 0o4755
        assert su.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY
        assert archive.getmember("usr/bin/su-too").linkname == "usr/bin/su"
        assert archive.getmember("usr/long-link-too").islnk()
        assert (archive.getmember("home/opam/file").uid, su.uid) == (1000, 0)
        assert all(0 <= item.mtime <= EPOCH for item in archive)


def test_directories_merely_copied_up_are_left_out(namespaces: Namespaces, lower: Path) -> None:
    """A directory that overlayfs copied up for shared state, or for nothing at all, belongs to no layer."""

    def work(root: Path) -> None:
        (root / "var/lib/dpkg/status").write_text("Package: other\n")
        os.utime(root / "usr/lib/deep", (5, 5))
        (root / "usr/lib/deep/er/passing").write_text("")
        (root / "usr/lib/deep/er/passing").unlink()

    assert names(namespaces(lambda: build_and_stack([lower], [work]))[0][0]) == []


def test_a_directory_with_another_mode_is_kept(namespaces: Namespaces, lower: Path) -> None:
    def work(root: Path) -> None:
        os.chmod(root / "usr/lib/deep", 0o700)

    archives, built, stacked = namespaces(lambda: build_and_stack([lower], [work]))
    assert names(archives[0]) == ["usr", "usr/lib", "usr/lib/deep"]
    assert stacked == built


def test_empty_directories_made_again_over_a_deletion(namespaces: Namespaces, lower: Path) -> None:
    """One layer deletes a tree, the next makes it again with empty directories: they are like those far below, but new."""

    def delete(root: Path) -> None:
        shutil.rmtree(root / "gone")

    def make_again(root: Path) -> None:
        (root / "gone/sub").mkdir(parents=True)

    archives, built, stacked = namespaces(lambda: build_and_stack([lower], [delete, make_again]))
    assert "gone/sub" in names(archives[1])
    assert b"gone/sub/file" not in stacked
    assert stacked == built


def test_whiteouts_of_shared_state_are_left_out(namespaces: Namespaces, lower: Path) -> None:
    def work(root: Path) -> None:
        (root / "var/lib/dpkg/status").unlink()

    assert names(namespaces(lambda: build_and_stack([lower], [work]))[0][0]) == []


_PATHS = [*"abc", *(f"{x}/{y}" for x in "abc" for y in "abc"), "a/b/c", "a/b/a", "b/a/b", "c/c/c"]
_step = st.tuples(
    st.sampled_from(["write", "write", "mkdir", "remove", "remove", "symlink", "link", "chmod", "rename"]),
    st.sampled_from(_PATHS),
    st.sampled_from(_PATHS),
)


def _apply(root: Path, steps: Sequence[Tuple[str, str, str]]) -> None:
    for action, first, second in steps:
        path, other = root / first, root / second
        try:
            if action == "write":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{first} {second}")
            elif action == "mkdir":
                path.mkdir(parents=True)
            elif action == "remove":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            elif action == "symlink":
                os.symlink("../" + second, path)
            elif action == "link":
                os.link(path, other, follow_symlinks=False)
            elif action == "chmod":
                os.chmod(path, 0o750, follow_symlinks=True)
            else:
                _move(path, other)
        except (OSError, shutil.Error):
            continue


def _move(path: Path, other: Path) -> None:
    # As mv(1): overlayfs does not rename directories that it merges.
    try:
        os.rename(path, other)
    except OSError:
        if os.path.lexists(other) or other in path.parents or path in other.parents:
            return
        shutil.move(os.fspath(path), os.fspath(other))


_steps = st.lists(_step, max_size=10)


@settings(max_examples=40)
@given(base=_steps, works=st.lists(_steps, min_size=1, max_size=3))
def test_any_changes_round_trip(
    namespaces: Namespaces,
    tmp_path_factory: pytest.TempPathFactory,
    base: List[Tuple[str, str, str]],
    works: List[List[Tuple[str, str, str]]],
) -> None:
    """Whatever is written, deleted, moved and linked, in up to three layers: stacked anew it looks the same."""
    root = tmp_path_factory.mktemp("any") / "base"
    make_lower(root)
    _apply(root, base)

    def inside() -> Tuple[List[bytes], Snapshot, Snapshot]:
        return build_and_stack([root], [lambda view, steps=steps: _apply(view, steps) for steps in works])  # type: ignore[misc]

    _, built, stacked = namespaces(inside)
    assert stacked == built
    shutil.rmtree(root)


def _plain_tree(root: Path, order: Sequence[str], time: float, umask: int) -> None:
    old = os.umask(umask)
    try:
        (root / "d").mkdir(parents=True)
        for name in order:
            with open(root / "d" / name, "w") as out:
                out.write(name)
            os.chmod(root / "d" / name, 0o644)
            os.utime(root / "d" / name, (time * 2, time))
        os.chmod(root / "d", 0o755)
        os.symlink("a", root / "d" / "link")
        os.link(root / "d" / "b", root / "d" / "zz")
    finally:
        os.umask(old)


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    """Order of creation, times, reads and umask do not show."""
    results = set()
    for number, (order, time, umask) in enumerate(
        [("abc", 1e9, 0o022), ("cba", 1.7e9, 0o077), ("bca", 1.2e9 + 0.5, 0)]
    ):
        root = tmp_path / str(number)
        _plain_tree(root, order, time, umask)
        results.add(capture_tree(root))
        (root / "d/a").read_text()
        results.add(capture_tree(root))
    assert len(results) == 1


def test_old_times_are_kept(tmp_path: Path) -> None:
    """A time before the clamp is a file's own (from an archive), and stays; one before 1970 becomes 1970."""
    for name, time in (("a", 1000), ("b", EPOCH + 5), ("c", -5)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (time, time))
    with tarfile.open(fileobj=io.BytesIO(capture_tree(tmp_path))) as archive:
        assert [item.mtime for item in archive] == [1000, EPOCH, 0]


def test_a_name_that_looks_like_a_whiteout_is_refused(tmp_path: Path) -> None:
    """A file `.wh.x` in a layer would delete `x`: better no layer than a wrong one."""
    (tmp_path / ".wh.x").write_text("")
    with pytest.raises(ToolError, match="wh.x"):
        capture_tree(tmp_path)


def test_sockets_are_left_out(tmp_path: Path) -> None:
    """Also those with two names."""
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "s"))
    os.link(tmp_path / "s", tmp_path / "s2")
    (tmp_path / "f").write_text("")
    sink = Collected()
    result = capture(tmp_path, Rules(skip=ownership.is_shared, owner=as_root_owned), sink)
    assert names(sink.data) == ["f"]
    assert result.entries == 1


def test_owners_follow_the_path() -> None:
    assert ownership.owner(b"home/opam") == ownership.owner(b"home/opam/.opam/x") == (1000, 1000)
    assert ownership.owner(b"home/opamer") == ownership.owner(b"usr") == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="trusted xattrs: needs root")
def test_directories_that_hide_nothing_are_not_opaque(tmp_path: Path) -> None:
    """overlayfs marks a directory that was renamed into place; a layer says it only over one of a lower layer."""
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for path in (upper / "new", upper / "old", lower / "old"):
        path.mkdir(parents=True)
    for name in ("new", "old"):
        (upper / name / "file").write_text("")
        os.setxattr(upper / name, "trusted.overlay.opaque", b"y")
    sink = Collected()
    rules = Rules(skip=ownership.is_shared, owner=as_root_owned, lower=[os.fsencode(lower)])
    assert capture(upper, rules, sink).opaque == [b"old"]


def access_list(*entries: Tuple[int, int, int]) -> bytes:
    """As the kernel keeps it: (tag, permissions, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
# u::rwx, u:1:rwx, g::rwx, m::rwx, o::rwx
LISTED = access_list((1, 7, NOBODY), (2, 7, 1), (4, 7, NOBODY), (16, 7, NOBODY), (32, 7, NOBODY))


def test_an_access_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "listed").write_text("")
    os.setxattr(tmp_path / "listed", "system.posix_acl_access", LISTED)
    with pytest.raises(ToolError, match="/listed has an access control list"):
        capture_tree(tmp_path)


def test_the_machines_access_lists_are_not_inherited(namespaces: Namespaces, lower: Path, tmp_path: Path) -> None:
    """They would give all files of a build another mode."""
    place = tmp_path / "place"
    place.mkdir()
    os.setxattr(place, "system.posix_acl_default", LISTED)

    def modes() -> List[int]:
        overlay = Overlay([lower], place / "build", rootless=False)
        overlay.mount()
        try:
            (overlay.root / "new/below").mkdir(parents=True)
            (overlay.root / "new/below/file").write_text("")
            (overlay.root / "usr/bin/tool").chmod(0o700)
            overlay.unmount()
            capture_tree(overlay.upper, overlay.lower)
            return [
                stat.S_IMODE(os.lstat(overlay.upper / name).st_mode)
                for name in ("new", "new/below", "new/below/file", "usr/bin/tool")
            ]
        finally:
            overlay.remove()

    before = os.umask(0o022)
    try:
        assert namespaces(modes) == [0o755, 0o755, 0o644, 0o700]
    finally:
        os.umask(before)
