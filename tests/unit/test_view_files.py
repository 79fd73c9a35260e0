"""view_files: what the tool reads and writes in a view stays in the view, with openat2 and without."""

from __future__ import annotations

import os
import random
import signal
import stat
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import open_in_root, view_files
from tests.unit.conftest import Namespaces


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of looking a name up."""
    if request.param == "walk":
        monkeypatch.setattr(open_in_root, "_has_openat2", lambda: False)
    elif not open_in_root._has_openat2():
        pytest.skip("the kernel, or a filter, has no openat2 for this process")
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory in the place of a mounted view, beside a file and a directory that are not of it."""
    made = tmp_path / "scratch/root"
    made.mkdir(parents=True)
    (made.parent / "outside").mkdir()
    (made.parent / "secret").write_text("alive")
    return made


def test_write(root: Path) -> None:
    """Directories are made as needed, files replaced, links at the end of a path not followed."""
    os.symlink(root.parent / "secret", root / "link")
    view_files.write_all(root, [("a/b/c", b"1"), ("a/b/c", b"2"), ("link", b"new")])
    assert (root / "a/b/c").read_bytes() == b"2"
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "a/b/c").stat().st_mode) == 0o644
    assert (root.parent / "secret").read_text() == "alive"
    assert (root / "link").read_bytes() == b"new"


def test_what_is_made_gets_its_owner(root: Path, root_user: None) -> None:
    """And what was there keeps its own."""
    (root / "a").mkdir()
    view_files.write(root, "a/b/c", b"", owner=(1000, 1001))
    assert [(root / name).stat().st_uid for name in ("a", "a/b", "a/b/c")] == [0, 1000, 1000]
    view_files.change_owner(root, "a", (5, 6))
    assert (root / "a").stat().st_gid == 6


def test_a_directory_in_the_place_of_a_file(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    with pytest.raises(ToolError, match="/a/b is a directory"):
        view_files.write(root, "a/b", b"")
    with pytest.raises(ToolError, match="/a/b of a view cannot be used"):
        view_files.overwrite(root, "a/b", b"")


def test_a_file_in_the_place_of_a_directory(root: Path) -> None:
    (root / "a").write_text("file")
    writers: List[Callable[[Path, str], None]] = [
        view_files.make_directories,
        view_files.make_directory,
        view_files.remove,
    ]
    for work in writers:
        with pytest.raises(ToolError, match="/a.* cannot be used: Not a directory"):
            work(root, "a/b/c")
    assert (root / "a").read_text() == "file"


WRITERS: Dict[str, Callable[[Path, str], object]] = {
    "write": lambda root, name: view_files.write(root, f"{name}/canary-of-a-test", b""),
    "make_file": lambda root, name: view_files.make_file(root, f"{name}/canary-of-a-test"),
    "make_directories": lambda root, name: view_files.make_directories(root, f"{name}/canary-of-a-test"),
    "make_directory": lambda root, name: view_files.make_directory(root, f"{name}/canary-of-a-test"),
    "make_link": lambda root, name: view_files.make_link(root, f"{name}/canary-of-a-test", "x"),
    "make_hard_link": lambda root, name: view_files.make_hard_link(root, "own", f"{name}/canary-of-a-test"),
    "hard link from there": lambda root, name: view_files.make_hard_link(root, f"{name}/there", "taken"),
    "overwrite": lambda root, name: view_files.overwrite(root, f"{name}/there", b"overwritten"),
    "overwrite the link": lambda root, name: view_files.overwrite(root, name, b"overwritten"),
    "remove": lambda root, name: view_files.remove(root, f"{name}/there"),
    "change_owner": lambda root, name: view_files.change_owner(root, name, (os.getuid(), os.getgid())),
    "mount_point": lambda root, name: view_files.mount_point(root, name).__enter__(),
}


@pytest.mark.parametrize("target", ["/", "absolute", "../../../outside", "/proc/self/cwd"])
@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_is_written_through_a_link_of_a_package(
    root: Path, target: str, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package's layer may have turned a directory of opam's into a symlink; from outside it would lead to the host."""
    outside = root.parent / "outside"
    (outside / "there").write_text("of the host")
    monkeypatch.chdir(outside)
    (root / "home/opam").mkdir(parents=True)
    (root / "own").write_text("own")
    os.symlink(outside if target == "absolute" else target, root / "home/opam/.opam")
    with pytest.raises(ToolError, match="/home/opam/.opam is a symlink"):
        WRITERS[writer](root, "home/opam/.opam")
    assert not Path("/canary-of-a-test").exists() and not (root / "taken").exists()
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("there", "of the host")]


def test_links_are_followed_inside(root: Path) -> None:
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/a.so.1").write_text("library")
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/a.so").symlink_to("/lib/a.so.1")
    (root / "loop").symlink_to("loop")
    (root / "out").symlink_to("../secret")
    assert view_files.resolve(root, "lib/a.so") == "usr/lib/a.so.1"
    assert view_files.resolve(root, "usr/../lib/../lib/a.so") == "usr/lib/a.so.1"
    assert view_files.read_text(root, "lib/a.so") == "library"
    assert view_files.read_text(root, "/lib/../../../lib/a.so") == "library"
    assert view_files.read(root, "lib/a.so", links=False) is None and view_files.read(
        root, "usr/lib/a.so.1", links=False
    )
    assert view_files.names(root, "lib") == ["a.so", "a.so.1"] and view_files.names(root, "out") == []
    assert view_files.read_link(root, "usr/lib/a.so") == "/lib/a.so.1"
    assert view_files.is_link(root, "lib") and view_files.status(root, "lib/a.so.1") is None
    for name in ("loop", "out", "absent", "../secret", "usr/lib/a.so.1/x", "usr\0/lib"):
        assert view_files.resolve(root, name) is None and view_files.read(root, name) is None
        assert not view_files.exists(root, name)
    assert list(view_files.walk(root)) == ["lib", "loop", "out", "usr/lib/a.so", "usr/lib/a.so.1"]


def test_only_regular_files_are_read(root: Path) -> None:
    """A FIFO would hold the process for ever."""
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to("fifo")
    (root / "directory").mkdir()
    for name in ("fifo", "link", "directory", ""):
        assert view_files.read(root, name) is None
    with pytest.raises(ToolError, match="/fifo of a view cannot be used"):
        view_files.overwrite(root, "fifo", b"")


def test_a_view_as_a_link_is_none(root: Path) -> None:
    """Such as a /tmp of a layer, which is looked up from as well."""
    (root / "tmp").symlink_to(root.parent)
    assert view_files.read(root / "tmp", "secret") is None


def test_what_is_mounted_in_a_view_is_not_of_it(root: Path, namespaces: Namespaces, way: str) -> None:
    """A link to /proc/self/environ leads out of no root, and would show the environment of the process that reads."""
    from opam_sandbox.sandbox import syscalls

    for name in ("proc", "tmp"):
        (root / name).mkdir()
    for name, target in (
        ("environ", "/proc/self/environ"),
        ("first", "proc/1/environ"),
        ("root", "/proc/self/root/etc"),
    ):
        (root / name).symlink_to(target)

    def work() -> object:
        syscalls.mount("proc", root / "proc", "proc")
        syscalls.mount("tmpfs", root / "tmp", "tmpfs")
        view_files.write(root / "tmp", "x", b"of the view")
        # Each of these would lead somewhere without the rule.
        assert (root / "proc/self/environ").exists()
        return (
            [view_files.exists(root, name) for name in ("environ", "first", "root", "proc/self/environ", "tmp/x")],
            [view_files.read(root, name) for name in ("environ", "first", "root")],
            [view_files.resolve(root, name) for name in ("environ", "first", "root/passwd")],
            view_files.read(root / "tmp", "x"),
        )

    assert namespaces(work) == ([False] * 5, [None] * 3, [None] * 3, b"of the view")


@pytest.fixture
def swapped(root: Path) -> Iterator[Path]:
    """A view in which a process turns a directory into a link to the host, and back, all the time."""
    (root / "d").mkdir()
    (root / "d/there").write_text("of the view")
    (root.parent / "outside/there").write_text("of the host")
    (root / "link").symlink_to(root.parent / "outside")
    child = os.fork()
    if child == 0:
        try:
            while True:
                os.rename(root / "d", root / "d2")
                os.rename(root / "link", root / "d")
                os.rename(root / "d", root / "link")
                os.rename(root / "d2", root / "d")
        finally:
            os._exit(1)
    yield root
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "the process that swaps has failed"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_name_that_changes_while_it_is_looked_up(swapped: Path) -> None:
    work = [
        lambda: view_files.read(swapped, "d/there"),
        lambda: os.close(view_files.make_file(swapped, "d/new")),
        lambda: view_files.overwrite(swapped, "d/there", b"of the view"),
        lambda: view_files.remove(swapped, "d/new"),
    ]
    chance = random.Random(1)
    read = set()
    for _ in range(3000):
        try:
            read.add(chance.choice(work)())
        except (ToolError, OSError):
            pass
    assert b"of the host" not in read and b"of the view" in read
    outside = swapped.parent / "outside"
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("there", "of the host")]
