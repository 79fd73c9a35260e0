"""The store on disks, and in hands, that are not what it expects: an error that says so, or what is wrong is put right."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Callable, List

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.layer import store_disk
from opam_sandbox.layer.store import Store
from opam_sandbox.publishing import cli
from opam_sandbox.sandbox import seccomp
from opam_sandbox.sandbox.namespaces import run_isolated
from tests.support import disks
from tests.support.sandbox_tool import copy_tool
from tests.unit.conftest import make_layer, make_tar, member
from tests.unit.test_store_damage import content_of, make_entries

ROOTLESS = os.geteuid() != 0
NUMBERS = {"x86_64": {"flock": 73, "fchmodat": 268, "chmod": 90, "utimensat": 280, "lchown": 94, "fchownat": 260, "link": 86,
                      "linkat": 265, "symlink": 88, "symlinkat": 266, "chown": 92, "fchmodat2": 452}}  # fmt: skip
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22


def refuse(*names: str, error: int) -> None:
    """Have system calls end with an error, or (0) do nothing and say that they did, in this process and those below it."""
    numbers = NUMBERS[os.uname().machine]
    code = [seccomp._load(seccomp._NUMBER_AT)]
    for name in names:
        code += [seccomp._jump(seccomp._EQUAL, numbers[name], 0, 1), seccomp._error(error)]
    program = b"".join([*code, seccomp._give(seccomp._ALLOW)])
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program)
    description = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, 2, description, 0, 0) == 0, ctypes.get_errno()


def told(work: Callable[[], object]) -> str:
    """The ToolError of `work` in a process of its own, or ""."""

    def guarded() -> str:
        signal.alarm(20)
        try:
            work()
        except ToolError as error:
            return str(error)
        return ""

    return disks.apart(guarded)


needs_numbers = pytest.mark.skipif(
    os.uname().machine not in NUMBERS, reason="numbers of system calls are not known here"
)


@needs_numbers
@pytest.mark.parametrize("error", [37, 38, 95], ids=["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_disk_without_locks(tmp_path: Path, root_user: None, error: int) -> None:
    """It does not wait for ever."""

    def work() -> None:
        refuse("flock", error=error)
        Store(tmp_path / "store", False).put("a" * 64, lambda target: None)

    said = told(work)
    assert "cannot be locked" in said and "named_caches_dir" in said and str(tmp_path) in said


@needs_numbers
@pytest.mark.parametrize(
    ("calls", "error", "lacking"),
    [
        (("chmod", "fchmodat", "fchmodat2"), 0, "the modes of files"),
        (("utimensat",), 0, "the times of files"),
        (("chown", "lchown", "fchownat"), 0, "the owners of files"),
        (("chown", "lchown", "fchownat"), 1, "the owners of files"),
        (("link", "linkat"), 1, "hard links"),
        (("link", "linkat"), 95, "hard links"),
        (("symlink", "symlinkat"), 1, "symbolic links"),
    ],
)
def test_a_disk_that_keeps_not_all(
    tmp_path: Path, root_user: None, calls: "tuple[str, ...]", error: int, lacking: str
) -> None:
    """Of what it silently forgets (0), layers would be wrong; of what it refuses, the message says whose fault it is."""
    layer = make_layer(tmp_path / "layer", make_tar([member("f", content=b"x")]))

    def work() -> None:
        store = Store(tmp_path / "store", False)
        refuse(*calls, error=error)
        store.get(layer)

    said = told(work)
    assert f"it does not keep {lacking}" in said and "named_caches_dir" in said
    assert list((tmp_path / "store").glob("v*/root/layers/*")) == list((tmp_path / "store").glob("v*/root/tmp/*")) == []


def test_a_disk_on_which_a_is_b(tmp_path: Path, root_user: None) -> None:
    """A directory in which names differ by more than case (ext4's casefold)."""

    def work() -> None:
        disks.make_ext4(tmp_path / "disk", 16 << 20, "-O", "casefold")
        with disks.loop(tmp_path / "disk", tmp_path / "at"):
            (tmp_path / "at/store").mkdir()
            disks.run("chattr", "+F", tmp_path / "at/store")
            Store(tmp_path / "at/store", False).put("a" * 64, lambda target: None)

    try:
        said = told(work)
    except disks.NoDiskError as error:
        pytest.skip(str(error))
    assert "it does not keep the case of names" in said and "ext4 file system at" in said


def test_a_disk_without_attributes(tmp_path: Path, root_user: None) -> None:
    """Most layers need none; the one that does says what is missing."""
    directory = [member("d", tarfile.DIRTYPE), member("d/.wh..wh..opq")]
    plain, opaque = make_layer(tmp_path / "1", make_tar(directory[:1])), make_layer(tmp_path / "2", make_tar(directory))

    def work() -> None:
        with disks.memory(tmp_path / "at", 0, kind="ramfs"):
            store = Store(tmp_path / "at/store", False)
            assert os.listdir(store.get(plain)) == ["d"]
            store.get(opaque)

    said = told(work)
    assert "Operation not supported" in said and "ramfs file system at" in said and "named_caches_dir" in said


def test_it_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: List[Path] = []

    def look(top: Path, rootless: bool) -> List[str]:
        looked.append(top)
        return []

    monkeypatch.setattr(store_disk, "_lacking", look)
    for number in range(3):
        Store(tmp_path / "store", ROOTLESS).put(f"{number:064x}", lambda target: None)
    assert len(looked) == 1
    (tmp_path / "store/v4" / ("user" if ROOTLESS else "root") / "file-system").write_text("another disk")
    Store(tmp_path / "store", ROOTLESS).put("f" * 64, lambda target: None)
    assert len(looked) == 2


def chown(root: Path) -> None:
    os.chown(root / "link", 7, 7, follow_symlinks=False)


def open_top(root: Path) -> None:
    root.chmod(0o700)


def change_mode(root: Path) -> None:
    next(path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()).chmod(0o777)


@pytest.mark.parametrize("hand", [chown, open_top, change_mode])
def test_what_hands_do_to_an_entry(
    tmp_path: Path, root_user: None, capfd: pytest.CaptureFixture[str], hand: Callable[[Path], None]
) -> None:
    """A layer with an owner or a mode that is another is damaged; so is one whose top directory keeps users out."""
    layer = make_layer(tmp_path / "layer", make_tar(make_entries(1)))
    store = Store(tmp_path / "store", False)
    root = store.get(layer)
    expected = (content_of(root), os.lstat(root).st_mode)
    hand(root)
    (root.parent / "checked").unlink()
    root = store.get(layer)
    assert (content_of(root), os.lstat(root).st_mode) == expected and os.lstat(root / "link").st_uid == 0
    assert "p.1 is damaged in the store" in capfd.readouterr().err


def test_a_full_disk_leaves_no_mark_behind(tmp_path: Path, root_user: None) -> None:
    """`checked` can be done without; what is half of it is no reason to believe."""
    layer = make_layer(tmp_path / "layer", make_tar([member("f", content=b"x")]))

    def work() -> List[str]:
        with disks.memory(tmp_path / "at", 1 << 20):
            store = Store(tmp_path / "at/store", False)
            root = store.get(layer)
            (root.parent / "checked").unlink()
            with open(tmp_path / "at/fill", "wb", buffering=0) as out:
                try:
                    while out.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            for _ in range(3):
                store.get(layer)
            return sorted(os.listdir(root.parent))

    assert set(disks.apart(work)) <= {"root", "inventory", "title", "used", "checked"}


def test_locks_of_dead_processes_hold_nobody_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", ROOTLESS)
    locks = store._root / "locks"
    (locks / ("a" * 64 + ".lock")).write_text("12345")  # as other programs leave them
    (locks / ("b" * 64 + ".lock")).mkdir()  # as a repair of the file system may
    for name in ("a" * 64, "b" * 64):
        assert store.put(name, lambda target: None).is_dir()


def test_what_a_repair_leaves_in_place_of_directories(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", ROOTLESS)
    (store._root / "tmp" / ("a" * 64)).write_text("")
    (store._root / "layers" / ("a" * 64)).write_text("")
    (store._root / "scratch" / "0123").mkdir()
    assert store.put("a" * 64, lambda target: None).is_dir()
    assert os.listdir(store._root / "scratch") == []
    shutil.rmtree(store._root / "tmp")
    (store._root / "tmp").write_text("")
    with pytest.raises(ToolError, match="tmp is not a directory: delete "):
        Store(tmp_path / "store", ROOTLESS)


def test_verify_names_stores_of_other_versions(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "store", ROOTLESS)
    for name in ("v1", "v99", "run", "locking-v1"):
        (tmp_path / "store" / name).mkdir()
    assert cli.main(["verify", os.fspath(tmp_path / "store")]) == 0
    said = capfd.readouterr().err
    assert "/v1 is of another version" in said and "/v99 is" in said and "run is" not in said and "locking" not in said


AS_USER = """
import os, sys
sys.path[:0] = sys.argv[1:2]
from pathlib import Path
from opam_sandbox.layer.store import Store
from opam_sandbox.running.unpacked import unpacked
from opam_sandbox.sandbox.namespaces import run_isolated
from opam_sandbox.layer.description import read_layer
store, layer = Path(sys.argv[2]), read_layer(Path(sys.argv[3]))
def build():
    print("build", Store(store, True).get(layer), flush=True)
    return 0
for step in sys.argv[4:]:
    if step == "build":
        assert run_isolated(build) == 0
    else:
        print("run", unpacked(Store(store, True), [layer])[0], flush=True)
"""


@pytest.mark.parametrize("order", [("build", "run"), ("run", "build"), ("run", "run")])
def test_a_user_has_one_store_for_builds_and_containers(
    tmp_path: Path, root_user: None, order: "tuple[str, str]"
) -> None:
    """Whoever comes first unpacks, and the other one finds it whole, also what a mode keeps its owner from."""
    entries = [
        member("closed", tarfile.DIRTYPE, mode=0),
        member("closed/f", content=b"x"),
        member("f", content=b"y", mode=0),
    ]
    make_layer(tmp_path / "layer", make_tar(entries))
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 12345, 12345)
    for path in (tmp_path, *tmp_path.parents):
        if "pytest-of-" in os.fspath(path):
            path.chmod(0o755)
    copy_tool(tmp_path / "tool")
    arguments = [str(tmp_path / name) for name in ("tool", "home/store", "layer")]
    # The system's Python: a user may not enter the directory of this one.
    user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "/usr/bin/env", "-i", "PATH=/usr/bin:/bin"]
    done = subprocess.run(
        [*user, "python3", "-sBc", AS_USER, *arguments, *order],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if "the kernel gives no namespaces" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    [first, second] = [line.split()[1] for line in done.stdout.splitlines()]
    assert first == second and "/v4/user/layers/" in first


def test_namespaces_are_there(root_user: None) -> None:
    """Else the test above was of nothing."""
    assert run_isolated(lambda: 0) == 0
