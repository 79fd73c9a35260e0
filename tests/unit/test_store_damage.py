"""store: whatever happened to an entry, what is used is right; what is damaged is made again, or an error."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import inventory, store_check
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store
from opam_sandbox.publishing import cli
from tests.unit.conftest import make_layer, make_tar, member

ROOTLESS = os.geteuid() != 0


def make_entries(seed: int) -> List["Tuple[tarfile.TarInfo, bytes]"]:
    """A layer with files of every size, empty ones as well, in directories some of which are empty."""
    chance = random.Random(seed)
    ids = {"uid": os.getuid(), "gid": os.getgid()}
    entries = []
    for number in range(8):
        entries.append(member(f"d{number}", tarfile.DIRTYPE, **ids))
        for name in range(chance.choice((0, 1, 3, 5))):
            content = chance.randbytes(chance.choice((0, 1, 100, 9000)))
            entries.append(member(f"d{number}/f{name}", content=content, **ids))
    entries.append(member("link", tarfile.SYMTYPE, linkname="d1", **ids))
    return entries


def content_of(tree: Path) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for path in tree.rglob("*"):
        status = path.lstat()
        held: Any = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[path.relative_to(tree).as_posix()] = (status.st_mode, int(status.st_mtime), held)
    return found


def damage(chance: random.Random, entry: Path) -> None:
    """Some of what a crash, a repair of the file system or somebody who tidies up does to an entry."""
    root = entry / "root"
    files = sorted(path for path in root.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
    sized = [path for path in files if path.lstat().st_size]
    directories = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    kind = chance.randrange(8)
    if kind == 0:
        for path in chance.sample(sized, max(1, len(sized) * 24 // 26)):
            os.truncate(path, 0)
    elif kind == 1:
        path = chance.choice(sized)
        os.truncate(path, chance.randrange(path.stat().st_size))
    elif kind == 2:
        chance.choice(files).unlink()
    elif kind == 3:
        path = chance.choice([path for path in directories if os.listdir(path)])
        shutil.rmtree(path)
        path.mkdir()
    elif kind == 4:
        shutil.rmtree(root)
        if chance.random() < 0.5:
            root.mkdir()
    elif kind == 5:
        inventory = entry / "inventory"
        data = inventory.read_bytes()
        if chance.random() < 0.5:
            inventory.write_bytes(data[: chance.randrange(len(data))])
        else:
            inventory.write_bytes(b"\0" * len(data))
    elif kind == 6:
        (entry / "inventory").unlink()
    else:
        (chance.choice(directories) / "more").write_text("not of it")


@pytest.mark.parametrize("seed", range(40))
def test_damage_in_a_copy(tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A copy of a store, as a backup or a moved home is, in which something was lost: the right layer, and a word of it."""
    layer = make_layer(tmp_path / "layer", make_tar(make_entries(seed)))
    expected = content_of(Store(tmp_path / "first", ROOTLESS).get(layer))
    subprocess.run(["cp", "-a", tmp_path / "first", tmp_path / "copy"], check=True)
    store = Store(tmp_path / "copy", ROOTLESS)
    damage(random.Random(seed), store.path(layer.diff_id).parent)
    assert content_of(store.get(layer)) == expected
    assert "p.1 is damaged in the store" in capfd.readouterr().err
    assert content_of(store.get(layer)) == expected
    assert os.listdir(store._root / "tmp") == [] and os.listdir(store.scratch_records) == []


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return make_layer(tmp_path / "layer", make_tar(make_entries(3)))


def lose(path: Path) -> None:
    """What ext4 leaves of files that were written shortly before a power loss."""
    for file in path.rglob("*"):
        if stat.S_ISREG(file.lstat().st_mode):
            os.truncate(file, 0)


def test_it_is_said_and_made_again(
    tmp_path: Path, layer: Layer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store", ROOTLESS)
    expected = content_of(store.get(layer))
    lose(store.path(layer.diff_id))
    reboot(tmp_path, monkeypatch)
    assert content_of(store.get(layer)) == expected
    said = capfd.readouterr().err
    assert said.startswith("warning: p.1 is damaged in the store: 'd") and said.endswith("; it is made again\n")
    assert len(said.splitlines()) == 1
    store.get(layer)
    assert capfd.readouterr().err == ""


def test_a_damaged_layer_without_its_blob_is_an_error(
    tmp_path: Path, layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store", ROOTLESS)
    lose(store.get(layer))
    reboot(tmp_path, monkeypatch)
    layer.blob.unlink()
    with pytest.raises(ToolError, match="p.1"):
        store.get(layer)
    assert not store.path(layer.diff_id).exists()


def reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(store_check, "_BOOT_ID", tmp_path / "boot")


def an_hour_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = store_check._seconds()
    monkeypatch.setattr(store_check, "_seconds", lambda: now + 3601)


def a_clock_before_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_check, "_seconds", lambda: 0)


def no_boot_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_check, "_BOOT_ID", tmp_path / "absent")


@pytest.mark.parametrize("when", [reboot, an_hour_later, a_clock_before_its_start, no_boot_id])
def test_when_an_entry_is_looked_at(
    tmp_path: Path, layer: Layer, monkeypatch: pytest.MonkeyPatch, when: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    """In each boot of the machine for the first time, and then from time to time; not for each of many builds."""
    store = Store(tmp_path / "store", ROOTLESS)
    store.get(layer)
    looked: List[Path] = []
    real = inventory.difference

    def spy(tree: Path, recorded: bytes, contents: bool) -> str:
        looked.append(tree)
        return real(tree, recorded, contents)

    monkeypatch.setattr(inventory, "difference", spy)
    store.get(layer)
    assert looked == []
    when(tmp_path, monkeypatch)
    store.get(layer)
    assert looked == [store.path(layer.diff_id)]
    store.get(layer)
    assert len(looked) == (2 if when is no_boot_id else 1)


def test_verify_reads_every_byte(tmp_path: Path, layer: Layer, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where size and time are what they were, as after a disk has lost a sector."""
    store = Store(tmp_path / "store", ROOTLESS)
    other = make_layer(tmp_path / "other", make_tar(make_entries(4)))
    path, expected = store.get(layer), content_of(store.get(layer))
    store.get(other)
    assert cli.main(["verify", os.fspath(tmp_path / "store")]) == 0
    file = next(file for file in sorted(path.rglob("*")) if file.is_file() and file.stat().st_size > 50)
    found = file.stat()
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    capfd.readouterr()
    assert cli.main(["verify", os.fspath(tmp_path / "store")]) == 1
    said = capfd.readouterr()
    assert said.out == f"{path.parent.name}: {file.relative_to(path).as_posix()!r} holds something else; removed\n"
    assert "1 layers are whole, 1 were damaged." in said.err
    assert not path.exists() and store.path(other.diff_id).exists()
    assert content_of(store.get(layer)) == expected
    assert cli.main(["verify", os.fspath(tmp_path / "store")]) == 0


def test_verify_sees_attributes(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", ROOTLESS)

    def fill(target: Path) -> None:
        (target / "d").mkdir()
        os.setxattr(target / "d", "user.note", b"1")

    path = store.put("a" * 64, fill)
    assert list(store.verify()) == [("a" * 64, "")]
    os.setxattr(path / "d", "user.note", b"2")
    assert list(store.verify()) == [("a" * 64, "'d' has other attributes")]


def test_verify_of_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", os.fspath(tmp_path / "absent")]) == 1
    assert "is not a directory" in capfd.readouterr().err and not (tmp_path / "absent").exists()


def test_forty_layers_are_looked_at_quickly(tmp_path: Path, layer: Layer) -> None:
    """What each build pays. (About 3 ms; a machine at work may need ten times as long.)"""
    store = Store(tmp_path / "store", ROOTLESS)
    names = [f"{number:064x}" for number in range(40)]
    for name in names:
        store.put(name, lambda target: (target / "f").write_text("") and None)
    best = min(_timed(lambda: [store_check.problem(store._entry(name)) for name in names]) for _ in range(5))
    print(f"{best * 1000:.2f} ms", file=sys.stderr)
    assert best < 0.05


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
