"""move_to_store: a captured tree that is moved into the store is what its layer unpacks to."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path
from typing import Any, Dict

import pytest

from opam_sandbox.layer.capture import Captured, capture
from opam_sandbox.layer.move_to_store import move_to_store
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.sandbox import syscalls
from tests.unit.conftest import Collected, Namespaces

OVERLAY = b"trusted.overlay."


def tree(root: Path) -> Dict[str, Any]:
    """Everything that can be seen of a tree, but for inode numbers (names of one file are said to be so)."""
    seen: Dict[str, Any] = {}
    first: Dict[int, str] = {}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(directory, name)
            relative = os.fspath(path.relative_to(root))
            status = path.lstat()
            whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            content: Any = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            links = "" if stat.S_ISDIR(status.st_mode) else status.st_nlink
            seen[relative] = (
                "whiteout"
                if whiteout
                else (
                    status.st_mode,
                    status.st_uid,
                    status.st_gid,
                    int(status.st_mtime),
                    status.st_rdev,
                    links,
                    content,
                    xattrs,
                )
            )
            if stat.S_ISREG(status.st_mode):
                seen[relative] += (first.setdefault(status.st_ino, relative),)
    return seen


def captured(upper: Path, lower: Path, uid: int = 0) -> "tuple[bytes, Captured]":
    sink = Collected()
    rules = Rules(skip=lambda path, _: path == b"skipped", owner=lambda path, _: (uid, uid), lower=[os.fsencode(lower)])
    result = capture(upper, rules, sink)
    return sink.data, result


def change(merged: Path) -> None:
    """Every kind of change that a package can make."""
    (merged / "new").mkdir(mode=0o750)
    (merged / "new/file").write_bytes(b"x" * 5000)
    os.link(merged / "new/file", merged / "new/again")
    os.utime(merged / "new/file", (10, 10))
    os.symlink("nowhere", merged / "new/link")
    os.mkfifo(merged / "new/fifo", 0o600)
    (merged / "skipped").write_text("not taken")
    (merged / "old/gone").unlink()
    (merged / "old/changed").write_text("new text")
    os.chmod(merged / "old/changed", 0o4755)
    os.setxattr(merged / "old/changed", "user.note", b"kept")
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    (merged / "new/capable").write_text("program")
    os.setxattr(merged / "new/capable", "security.capability", capability)
    for name in ("x", "y"):
        (merged / "replaced" / name).unlink()
    (merged / "replaced").rmdir()
    (merged / "replaced").mkdir()
    (merged / "replaced/z").write_text("alone")
    os.setxattr(merged / "new", "user.note", b"kept")


@pytest.mark.parametrize("owner", [0, 1000])
def test_moved_is_what_is_unpacked(tmp_path: Path, namespaces: Namespaces, owner: int) -> None:
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    for directory in (lower, upper, work, merged):
        directory.mkdir()
    for name in ("old/gone", "old/changed", "replaced/x", "replaced/y"):
        (lower / name).parent.mkdir(exist_ok=True)
        (lower / name).write_text("old")

    def inside() -> bool:
        options = f"lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=nofollow,index=off,metacopy=off"
        syscalls.mount("overlay", merged, "overlay", 0, options)
        change(merged)
        syscalls.umount(merged)
        data, result = captured(upper, lower, owner)
        diff_id = hashlib.sha256(data).hexdigest()
        unpacked = tmp_path / "unpacked"
        unpacked.mkdir()
        unpack(io.BytesIO(data), unpacked, rootless=False)
        store = Store(tmp_path / "store", rootless=False)
        assert move_to_store(store, diff_id, upper, result.taken)
        expected, found = tree(unpacked), tree(store.path(diff_id))
        assert {path: found.get(path) for path in expected} == expected
        assert set(found) == set(expected)
        assert "skipped" not in found and (upper / "skipped").exists()
        assert expected["old/gone"] == "whiteout"
        assert expected["replaced"][7] == {"trusted.overlay.opaque": b"y"}
        assert "security.capability" in expected["new/capable"][7]
        return True

    assert namespaces(inside)


def test_another_file_system_is_left_alone(tmp_path: Path, namespaces: Namespaces) -> None:
    upper = tmp_path / "upper"
    (upper / "a").mkdir(parents=True)
    (tmp_path / "store").mkdir()

    def inside() -> bool:
        syscalls.mount("tmpfs", tmp_path / "store", "tmpfs")
        data, result = captured(upper, tmp_path)
        store = Store(tmp_path / "store", rootless=False)
        diff_id = hashlib.sha256(data).hexdigest()
        return move_to_store(store, diff_id, upper, result.taken) or store.path(diff_id).exists()

    assert not namespaces(inside)
    assert (upper / "a").is_dir()


def test_another_mount_is_left_alone(tmp_path: Path, namespaces: Namespaces) -> None:
    """The same device, and yet no rename leads there: the layer is unpacked where it is wanted, nothing is lost."""
    upper = tmp_path / "upper"
    (upper / "a").mkdir(parents=True)
    (upper / "a/file").write_text("content")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()

    def inside() -> bool:
        syscalls.mount(tmp_path / "elsewhere", tmp_path / "store", flags=syscalls.MS_BIND)
        data, result = captured(upper, tmp_path)
        store = Store(tmp_path / "store", rootless=False)
        assert store.is_beside(upper)
        diff_id = hashlib.sha256(data).hexdigest()
        return move_to_store(store, diff_id, upper, result.taken) or store.path(diff_id).exists()

    assert not namespaces(inside)
    assert (upper / "a/file").read_text() == "content"


def test_a_user_keeps_no_layer_with_devices(tmp_path: Path, root_user: None) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    os.mknod(upper / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    data, result = captured(upper, tmp_path)
    store = Store(tmp_path / "store", rootless=True)
    assert not move_to_store(store, hashlib.sha256(data).hexdigest(), upper, result.taken)
    assert (upper / "null").exists()
