"""store: a power loss at any moment. A small disk is copied while layers are made on it, and each copy is mounted and read.

The disk is a file. What is copied is what the kernel has written to it, not what it still holds in memory, as after the
plug is pulled.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from opam_sandbox.layer.store import Store

MOMENTS = 24
SIZE = 48 << 20


def content(layer: int) -> Dict[str, bytes]:
    """Files of a layer: 26, of various sizes."""
    chance = random.Random(layer)
    return {f"d{number % 4}/f{number}": chance.randbytes(chance.choice((1, 500, 6000, 30000))) for number in range(26)}


def fill(target: Path, layer: int) -> None:
    for name, data in content(layer).items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(data)


def run(*argv: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[str]:
    """The file as a disk, with ext4; its block device."""
    at.mkdir(exist_ok=True)
    device = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ).stdout.strip()
    try:
        # What is only in memory reaches the journal within a second: names before the content of new files.
        run("mount", "-t", "ext4", "-o", "commit=1", device, at)
        try:
            yield device
        finally:
            run("umount", at)
    finally:
        run("losetup", "--detach", device)


@pytest.fixture
def disk(tmp_path: Path, root_user: None) -> Path:
    """A new file system of 48 MiB as a file; skips where there are no loop devices."""
    image = tmp_path / "disk"
    with open(image, "wb") as out:
        out.truncate(SIZE)
    try:
        run("mkfs.ext4", "-q", "-F", image)
        with mounted(image, tmp_path / "mounted"):
            pass
    except FileNotFoundError as error:
        pytest.skip(f"this machine lacks {error.filename}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file can be mounted here: {error.cmd[0]}: {error.stderr!r}")
    return image


def writes(device: str) -> str:
    """Changes with every write that the device was given or has finished."""
    numbers = Path("/sys/block", os.path.basename(device), "stat").read_text().split()
    return " ".join(numbers[index] for index in (4, 6, 8, 14, 15))


def copy_at_rest(image: Path, device: str, target: Path) -> bool:
    """Copy the disk as it is at one moment; says whether nothing was written meanwhile."""
    for _ in range(50):
        before = writes(device)
        if before.split()[2] == "0":
            run("cp", "--sparse=always", image, target)
            if writes(device) == before:
                return True
        time.sleep(0.01)
    return False


def make_layers(top: Path, said: int) -> None:
    """Make one layer after the other, and say after each that it is there."""
    store = Store(top / "store", False)
    for layer in range(1, 200):
        store.put(f"{layer:064x}", lambda target, layer=layer: fill(target, layer))  # type: ignore[misc]
        os.write(said, b"%d\n" % layer)


def test_a_power_loss(disk: Path, tmp_path: Path) -> None:
    """A layer that was said to be there is there, and whole; one that was not yet is whole, or not there."""
    copies: Dict[Path, int] = {}
    chance = random.Random(1)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    with mounted(disk, tmp_path / "mounted") as device:
        child = os.fork()
        if child == 0:
            try:
                make_layers(tmp_path / "mounted", writer)
            finally:
                os._exit(0)
        promised = 0
        try:
            for moment in range(MOMENTS):
                time.sleep(chance.uniform(0.02, 0.25))
                os.kill(child, signal.SIGSTOP)
                time.sleep(chance.choice((0, 0, 0, 1.2)))  # the kernel goes on writing
                promised += _lines(reader)
                copy = tmp_path / f"copy{moment}"
                if copy_at_rest(disk, device, copy):
                    copies[copy] = promised
                os.kill(child, signal.SIGCONT)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            os.close(writer)
    assert len(copies) >= MOMENTS // 2 and max(copies.values()) > 5
    for copy, count in copies.items():
        check(copy, count, tmp_path / "after")
        copy.unlink()


def check(image: Path, promised: int, at: Path) -> None:
    with mounted(image, at):
        store = Store(at / "store", False)
        there = sorted(os.listdir(store._root / "layers"))
        assert [int(name, 16) for name in there[:promised]] == list(range(1, promised + 1))
        for name in there:
            found = {
                path.relative_to(store.path(name)).as_posix(): path.read_bytes()
                for path in store.path(name).rglob("*")
                if path.is_file()
            }
            assert found == content(int(name, 16)), f"layer {int(name, 16)} of {len(there)}, {promised} promised"
        remade: List[int] = []
        for name in there:
            store.put(name, lambda target: remade.append(1))
        assert remade == []
        # What was half made goes when it is wanted again.
        for name in os.listdir(store._root / "tmp"):
            store.put(name, lambda target: fill(target, 1))
        assert os.listdir(store._root / "tmp") == []
        shutil.rmtree(at / "store")


def _lines(reader: int) -> int:
    try:
        return os.read(reader, 1 << 16).count(b"\n")
    except BlockingIOError:
        return 0
