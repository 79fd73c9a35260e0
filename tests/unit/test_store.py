"""store: a layer's directory is whole or absent, whatever happens while it is filled."""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import syscalls
from tests.unit.conftest import make_layer, make_tar, member

DIFF_ID = "sha256:" + "a" * 64
ROOTLESS = os.geteuid() != 0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", ROOTLESS)


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    uid, gid = os.getuid(), os.getgid()
    return make_layer(
        tmp_path / "layer",
        make_tar(
            [
                member("d", tarfile.DIRTYPE, uid=uid, gid=gid),
                member("d/f", content=os.urandom(200_000), uid=uid, gid=gid),
            ]
        ),
    )


def leftovers(store: Store) -> "list[str]":
    return [name for directory in ("tmp", "layers", "scratch") for name in os.listdir(store._root / directory)]


def test_get_unpacks_once(store: Store, layer: Layer) -> None:
    path = store.get(layer)
    assert (path / "d/f").stat().st_size == 200_000
    layer.blob.unlink()
    assert store.get(layer) == path


def test_many_processes_fill_once(tmp_path: Path) -> None:
    """Processes that want the same layer at the same time: one fills, all get it whole."""
    log = tmp_path / "log"

    def want() -> None:
        def fill(target: Path) -> None:
            with open(log, "a") as out:
                out.write("fill\n")
            (target / "half").write_text("")
            time.sleep(0.2)
            (target / "whole").write_text("")

        path = Store(tmp_path / "store", ROOTLESS).put(DIFF_ID, fill)
        os._exit(0 if (path / "whole").exists() else 1)

    processes = [multiprocessing.get_context("fork").Process(target=want) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0] * 5
    assert log.read_text() == "fill\n"


def test_a_fill_that_fails_leaves_nothing(store: Store) -> None:
    def fill(target: Path) -> None:
        (target / "d").mkdir()
        (target / "d" / "f").write_text("half")
        os.chmod(target / "d", 0)
        raise ToolError("no")

    with pytest.raises(ToolError, match="no"):
        store.put(DIFF_ID, fill)
    assert leftovers(store) == []
    assert store.put(DIFF_ID, lambda target: None).is_dir()


def test_a_killed_fill_is_not_used(tmp_path: Path, store: Store) -> None:
    """SIGKILL in the middle: the lock is free, the half is swept, the next one makes a whole."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:

        def fill(target: Path) -> None:
            (target / "half").write_text("")
            os.write(writer, b"x")
            time.sleep(60)

        store.put(DIFF_ID, fill)
        os._exit(0)
    assert os.read(reader, 1) == b"x"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert not store.path(DIFF_ID).exists()
    other = "sha256:" + "b" * 64
    store.put(other, lambda target: None)  # whatever layer the next process wants
    assert leftovers(store) == ["b" * 64]
    path = store.put(DIFF_ID, lambda target: (target / "whole").write_text("") and None)
    assert os.listdir(path) == ["whole"]


def test_a_half_without_a_record(store: Store) -> None:
    """As a power loss may leave it."""
    (store._root / "tmp" / ("a" * 64)).mkdir()
    (store._root / "tmp" / ("a" * 64) / "half").write_text("")
    assert os.listdir(store.put(DIFF_ID, lambda target: None)) == []


def test_a_layer_is_on_disk_before_it_has_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power loss could leave a layer of empty files behind."""
    seen = []
    monkeypatch.setattr(
        syscalls, "sync_file_system", lambda path: seen.append((os.listdir(path), store.path(DIFF_ID).exists()))
    )
    store.put(DIFF_ID, lambda target: (target / "f").write_text("") and None)
    assert [(sorted(names), there) for names, there in seen] == [(["inventory", "root", "title", "used"], False)]


def test_a_name_is_synced_as_well(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once somebody has been told that the layer is there, it stays."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((os.readlink(f"/proc/self/fd/{fd}"), found())))

    def found() -> bool:
        return store.path(DIFF_ID).exists()

    store.put(DIFF_ID, lambda target: None)
    assert synced == [(os.fspath(store._root / "layers"), True)]


@pytest.mark.parametrize("before", ["absent", "open"])
def test_it_is_closed_to_others(tmp_path: Path, layer: Layer, before: str) -> None:
    """A set-uid program of a layer is nobody's to find, whatever the umask is, and in a store of an earlier version."""
    directory = tmp_path / "store"
    if before == "open":
        (directory / "v4/root").mkdir(parents=True)
        (directory / "v1/root/layers").mkdir(parents=True)
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755)
    old = os.umask(0)
    try:
        Store(directory, False).put(DIFF_ID, lambda target: (target / "f").write_text("") and None)
    finally:
        os.umask(old)
    closed = [directory, directory / "v4", directory / "v4/root", Store(directory, False).path(DIFF_ID).parent]
    assert [path.stat().st_mode & 0o777 for path in closed] == [0o700] * 4
    assert Store(directory, False).path(DIFF_ID).stat().st_mode & 0o777 == 0o755  # the root of what is built over it


def test_another_user_runs_nothing_of_it(tmp_path: Path, root_user: None) -> None:
    """As a local user who knows where the store is."""
    store = Store(tmp_path / "store", False)

    def fill(target: Path) -> None:
        shutil.copy("/usr/bin/id", target / "id")
        os.chmod(target / "id", 0o4755)

    program = store.put(DIFF_ID, fill) / "id"
    for path in tmp_path.parents:
        if "pytest-of-" in os.fspath(path):
            path.chmod(0o755)
    tmp_path.chmod(0o755)
    argv = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    assert subprocess.run([*argv, "test", "-d", tmp_path]).returncode == 0
    # By a shell: what setpriv starts itself, it starts with more privileges than the user has.
    done = subprocess.run(
        [*argv, "sh", "-c", f"test -e {program} || exec {program}"], stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 126 and "Permission denied" in done.stderr


@pytest.mark.parametrize("where", ["", "v4", "v4/root"])
def test_a_store_of_another_user_is_refused(tmp_path: Path, root_user: None, where: str) -> None:
    """Who owns a directory can put anything into it."""
    taken = tmp_path / "store" / where
    taken.mkdir(parents=True)
    os.chown(taken, 12345, 12345)
    with pytest.raises(ToolError, match="belongs to user 12345"):
        Store(tmp_path / "store", False)


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store/v4").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToolError, match="is not a directory of this user"):
        Store(tmp_path / "store", False)


def _damaged(layer: Layer, how: str) -> Layer:
    packed = layer.blob.read_bytes()
    if how == "wrong diff_id":
        return layer._replace(diff_id=DIFF_ID)
    if how == "other blob":
        layer.blob.write_bytes(gzip.compress(make_tar([member("evil")])))
    elif how == "truncated":
        layer.blob.write_bytes(packed[: len(packed) // 2])
    elif how == "truncated by little":
        layer.blob.write_bytes(packed[:-5])
    elif how == "flipped":
        layer.blob.write_bytes(packed[:100_000] + bytes([packed[100_000] ^ 0xFF]) + packed[100_001:])
    elif how == "more behind":
        layer.blob.write_bytes(packed + b"\0" * 512)
    elif how == "empty":
        layer.blob.write_bytes(b"")
    elif how == "no gzip":
        layer.blob.write_bytes(b"hello")
    elif how == "absent":
        layer.blob.unlink()
    return layer


@pytest.mark.parametrize(
    "how",
    [
        "wrong diff_id",
        "other blob",
        "truncated",
        "truncated by little",
        "flipped",
        "more behind",
        "empty",
        "no gzip",
        "absent",
    ],
)
def test_damaged_blobs(store: Store, layer: Layer, how: str) -> None:
    """A ToolError that names the layer, and no directory."""
    damaged = _damaged(layer, how)
    with pytest.raises(ToolError, match="p.1"):
        store.get(damaged)
    assert leftovers(store) == []


def test_right_bytes_packed_otherwise(store: Store, tmp_path: Path) -> None:
    """The blob's digest counts, not only its content's."""
    plain = make_tar([member("f", content=b"x")])
    layer = make_layer(tmp_path / "one", plain)
    layer.blob.write_bytes(gzip.compress(plain, 1, mtime=5))
    with pytest.raises(ToolError, match=hashlib.sha256(layer.blob.read_bytes()).hexdigest()):
        store.get(layer)


def test_users_do_not_share(tmp_path: Path) -> None:
    """What root unpacked has other owners than what a user did."""
    assert Store(tmp_path / "s", False).path(DIFF_ID) != Store(tmp_path / "s", True).path(DIFF_ID)


def test_remove_tree_leaves_other_names_of_a_file_alone(tmp_path: Path) -> None:
    """Removing a tree changes no mode of a file that lives on under another name."""
    keep = tmp_path / "keep"
    keep.write_text("")
    os.chmod(keep, 0o444)
    (tmp_path / "tree/closed").mkdir(parents=True)
    os.link(keep, tmp_path / "tree/closed/f")
    os.symlink(keep, tmp_path / "tree/s")
    os.chmod(tmp_path / "tree/closed", 0)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == ["keep"]
    assert keep.stat().st_mode & 0o777 == 0o444
