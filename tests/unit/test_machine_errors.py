"""What the machine refuses, said by every command in one way: what, where, and what to do; exit status 1, no traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import List, Tuple

import pytest

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox.namespaces import _guarded
from tests.support import disks
from tests.support.sandbox_tool import copy_tool
from tests.unit.conftest import build_request, make_base_layer, make_layer, make_opam_root, make_tar, member


def raised(error: BaseException) -> str:
    """The text of an error that was really raised, in a file that it may name."""
    try:
        raise error
    except BaseException as caught:
        return str(machine_errors.explained(caught))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "there is no room for {path}: the .* file system at /.* is full, .* of .* bytes are left"),
        (errno.EDQUOT, "{path} cannot be written: the disk quota on the .* file system at /.* is used up"),
        (errno.EROFS, "{path} cannot be written: the .* file system at /.* is read-only"),
        (errno.EFBIG, "a file below {path} is larger than allowed: raise this process's limit"),
        (errno.EIO, "{path}: Input/output error"),
        (errno.EMFILE, "this process may not open more files .*ulimit -n"),
        (errno.ENFILE, "the machine has as many files open as it can"),
        (errno.ENOMEM, "there is not enough memory"),
        (errno.EAGAIN, "no more processes can be started"),
        (errno.EACCES, "{path}: Permission denied"),
    ],
)
def test_texts(tmp_path: Path, number: int, words: str) -> None:
    path = tmp_path / "some/file"
    said = raised(OSError(number, os.strerror(number), os.fspath(path)))
    assert re.match(words.format(path=re.escape(os.fspath(path))), said), said


def test_the_second_of_two_files_is_written(tmp_path: Path) -> None:
    said = raised(OSError(errno.ENOSPC, "No space left on device", "/proc/self/maps", None, os.fspath(tmp_path / "to")))
    assert said.startswith(f"there is no room for {tmp_path / 'to'}")


def test_a_file_that_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = raised(OSError(errno.ENOSPC, "No space left on device"))
    assert str(tmp_path) in said and re.search(r"\d+ of \d+ bytes are left", said)


def test_others_that_have_a_text() -> None:
    assert "not enough memory" in raised(MemoryError())
    assert "no more processes" in raised(RuntimeError("can't start new thread"))


def test_mistakes_keep_their_traceback() -> None:
    for error in (ValueError("x"), RuntimeError("x"), KeyboardInterrupt(), ToolError("x")):
        assert machine_errors.explained(error) is None


def test_in_a_namespace(capfd: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise OSError(errno.ENFILE, "Too many open files in system")

    assert _guarded(main) == 1
    assert capfd.readouterr().err.startswith("error: the machine has as many files open")


def limited(program: Path, work: Path, argv: List[str], kind: int, soft: int, hard: int) -> Tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-sB", "-m", *argv],
        cwd=work,
        env={"PYTHONPATH": str(program), "PATH": os.environ["PATH"]},
        preexec_fn=lambda: resource.setrlimit(kind, (soft, hard)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tool(tmp_path_factory.mktemp("tool"))


OPAM = "#!/bin/sh\ncat /bin/sh > /home/opam/f\n"


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> str:
    """A request to build over 125 layers, and one to merge them."""
    top = tmp_path_factory.mktemp("layers")
    found = [make_base_layer(top / "base", tiny_root, {"opam": OPAM}), make_opam_root(top / "opam-root")]
    for number in range(123):
        # Parents that no layer names are root's.
        names = [member(name, tarfile.DIRTYPE, uid=1000, gid=1000) for name in ("home", "home/opam")]
        names += [member(f"home/opam/d{number}", tarfile.DIRTYPE), member(f"home/opam/d{number}/f", content=b"x")]
        opam = member(
            f"home/opam/.opam/default/.opam-switch/packages/p{number}.1/opam", content=b'opam-version: "2.0"\n'
        )
        found.append(make_layer(top / str(number), make_tar([*names, opam]), name=f"p{number}"))
    return json.dumps(build_request(top / "store", found))


@pytest.mark.parametrize("soft", [64, 128, 256])
@pytest.mark.parametrize("count", [40, 125])
def test_descriptors(tmp_path: Path, root_user: None, program: Path, layers: str, soft: int, count: int) -> None:
    """With a low limit that may be raised, images of many layers are made; where it may not be raised, they are, or the error
    says so."""
    request = json.loads(layers)
    request["layers"] = request["layers"][:count]
    merge = {"store": request["store"], "layers": request["layers"], "compression": "gzip", "level": 1}
    (tmp_path / "build.json").write_text(json.dumps(request))
    (tmp_path / "merge.json").write_text(json.dumps({**merge, "name": "g", "whole": False}))
    for command in (["opam_sandbox.building", "build", "build.json"], ["opam_sandbox.imaging", "merge", "merge.json"]):
        status, said = limited(program, tmp_path, command, resource.RLIMIT_NOFILE, soft, 4096)
        assert (status, said) == (0, ""), command
        status, said = limited(program, tmp_path, command, resource.RLIMIT_NOFILE, soft, soft)
        if status != 0:
            assert status == 1 and re.fullmatch(rf"error: .*\(it may {soft} of {soft}\): .*ulimit -n.*\n", said), said
        if count < soft // 2:
            assert status == 0, (command, said)


@pytest.mark.parametrize("limit", [0, 1000, 100_000])
def test_the_size_of_files(tmp_path: Path, root_user: None, program: Path, layers: str, limit: int) -> None:
    request = json.loads(layers)
    request["layers"], request["store"] = request["layers"][:3], str(tmp_path / "store")
    (tmp_path / "build.json").write_text(json.dumps(request))
    command = ["opam_sandbox.building", "build", "build.json"]
    status, said = limited(program, tmp_path, command, resource.RLIMIT_FSIZE, limit, limit)
    assert status == 1 and said.startswith("error: ") and "Traceback" not in said and "ulimit -f" in said, said
    assert limited(program, tmp_path, command, resource.RLIMIT_FSIZE, -1, -1) == (0, "")


@pytest.mark.parametrize("place", ["store", "sandbox"])
def test_a_read_only_disk(tmp_path: Path, root_user: None, program: Path, layers: str, place: str) -> None:
    request = json.loads(layers)
    request["layers"], request["store"] = request["layers"][:3], str(tmp_path / "store")
    (tmp_path / "build.json").write_text(json.dumps(request))

    def work() -> Tuple[int, str]:
        for name in ("store", "sandbox"):
            (tmp_path / name).mkdir()
        with disks.memory(tmp_path / place, 1 << 26):
            disks.run("mount", "-o", "remount,ro", tmp_path / place)
            command = ["opam_sandbox.building", "build", str(tmp_path / "build.json")]
            return limited(program, tmp_path / "sandbox", command, resource.RLIMIT_CORE, 0, 0)

    status, said = disks.apart(work)
    assert status == 1 and said.count("\n") == 1, said
    assert re.match(rf"error: {tmp_path / place}\S*( which holds .*)? cannot be written: .* is read-only\.", said), said


def test_a_disk_that_fails(tmp_path: Path, root_user: None) -> None:
    """Sectors that cannot be read any more (the disk's file is cut off): the layer is found damaged, and made again."""
    contents = {f"f{number}": os.urandom(200_000) for number in range(20)}
    layer = make_layer(tmp_path / "layer", make_tar([member(name, content=data) for name, data in contents.items()]))

    def work() -> Tuple[List[str], bool]:
        disks.make_ext4(tmp_path / "disk", 32 << 20)
        with disks.loop(tmp_path / "disk", tmp_path / "at"):
            store = Store(tmp_path / "at/store", False)
            path = store.get(layer)
            os.truncate(tmp_path / "disk", 9 << 20)
            for file in path.iterdir():
                descriptor = os.open(file, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # what is in memory is read from there
                os.close(descriptor)
            problems = [problem for _, problem in store.verify()]
            right = {file.name: file.read_bytes() for file in store.get(layer).iterdir()} == contents
            store.let_go()
            return problems, right

    [problem], right = disks.apart(work)
    assert re.fullmatch(r"'f\d+' cannot be read \(Input/output error\)", problem) and right
