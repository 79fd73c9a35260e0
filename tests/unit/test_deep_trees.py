"""Trees deeper than Python's stack and than paths, and names longer than layers can say."""

from __future__ import annotations

import io
import os
import resource
import stat
from pathlib import Path
from typing import Iterator

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.imaging.copy_files import Copies
from opam_sandbox.layer import tar_headers
from opam_sandbox.layer.capture import capture
from opam_sandbox.layer.merge_tars import merge
from opam_sandbox.layer.store import Store
from opam_sandbox.layer.tar_headers import LARGEST_RECORDS, LONGEST_PATH, Entry
from opam_sandbox.layer.unpack import unpack
from opam_sandbox.layer.walk_tree import Rules
from opam_sandbox.sandbox import view_files
from tests.unit.conftest import Collected, Namespaces, make_layer

pytestmark = pytest.mark.usefixtures("root_user")


@pytest.fixture(autouse=True)
def removed(tmp_path: Path) -> Iterator[None]:
    """What a failing test leaves behind is too deep for pytest."""
    yield
    remove_tree(tmp_path)


def deep_directory(top: Path, depth: int, name: str = "d") -> None:
    """Directories in one another, whose path may be longer than paths can be; in the last, a file."""
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


RULES = Rules(skip=lambda path, directory: False, owner=lambda path, status: (0, 0))


def test_as_deep_as_paths_go(tmp_path: Path) -> None:
    """1,100 directories in one another, deeper than Python's stack: captured, unpacked, merged, recorded, removed."""
    for name in ("upper", "target"):
        (tmp_path / name).mkdir()
    deep_directory(tmp_path / "upper", 1_100)
    sink = Collected()
    assert capture(tmp_path / "upper", RULES, sink).entries == 1_101
    unpack(io.BytesIO(sink.data), tmp_path / "target", rootless=False)
    again = Collected()
    capture(tmp_path / "target", RULES, again)
    merged = Collected()
    merge([io.BytesIO(sink.data)], merged, False)
    assert again.data == merged.data == sink.data
    store = Store(tmp_path / "store", rootless=False)
    layer = make_layer(tmp_path / "layer", sink.data)
    store.get(layer)
    assert list(store.verify()) == [(layer.diff_id[7:], "")]
    for name in ("upper", "target", "store"):
        remove_tree(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_deeper_than_paths_go(tmp_path: Path) -> None:
    """What no image can hold is an error that says where."""
    (tmp_path / "upper").mkdir()
    deep_directory(tmp_path / "upper", 30, "d" * 200)
    with pytest.raises(ToolError, match=f"/ddd.* takes names of {LONGEST_PATH}"):
        capture(tmp_path / "upper", RULES, Collected())


def test_removal_of_what_is_deep(tmp_path: Path) -> None:
    """A build may leave behind what has no path."""
    (tmp_path / "upper").mkdir()
    deep_directory(tmp_path / "upper", 10_000)
    remove_tree(tmp_path / "upper")
    assert not (tmp_path / "upper").exists()


def test_removal_needs_few_descriptors(tmp_path: Path) -> None:
    """And no rights that the directories' modes give."""
    (tmp_path / "upper").mkdir()
    deep_directory(tmp_path / "upper", 300)
    (tmp_path / "upper/d/d").chmod(0)
    (tmp_path / "upper/d/wide").mkdir(mode=0o500)
    (tmp_path / "upper/d/link").symlink_to(tmp_path)
    (tmp_path / "kept").touch()
    for path in [tmp_path, *tmp_path.rglob("*")]:
        os.chown(path, 1000, 1000, follow_symlinks=False)
    child = os.fork()
    if child == 0:
        code = 9
        try:
            os.chdir(tmp_path)  # those above it are root's
            os.setgroups([])
            os.setresgid(1000, 1000, 1000)
            os.setresuid(1000, 1000, 1000)
            resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
            os.closerange(10, 400)
            remove_tree(Path("upper"))
            code = 0
        except OSError as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(os.listdir(tmp_path)) == ["kept"]


def test_nothing_that_is_mounted_is_removed(namespaces: Namespaces, tmp_path: Path) -> None:
    (tmp_path / "upper/here").mkdir(parents=True)
    (tmp_path / "theirs").mkdir()

    def work() -> str:
        from opam_sandbox.sandbox import syscalls

        syscalls.mount("tmpfs", tmp_path / "theirs", "tmpfs")
        (tmp_path / "theirs/file").write_text("theirs")
        syscalls.mount(os.fspath(tmp_path / "theirs"), tmp_path / "upper/here", flags=syscalls.MS_BIND)
        try:
            remove_tree(tmp_path / "upper")
        except OSError as error:
            return f"{error.strerror}: {(tmp_path / 'theirs/file').read_text()}"
        return "removed"

    assert namespaces(work) == "something is mounted there: theirs"


# -- names ---------------------------------------------------------------------


@pytest.mark.parametrize("length", [251, 252, 255])
def test_deleted_files_of_long_names(tmp_path: Path, length: int) -> None:
    """With `.wh.` in front, a name of more than 251 bytes is none."""
    os.mknod(tmp_path / ("n" * length), stat.S_IFCHR | 0o600, os.makedev(0, 0))
    sink = Collected()
    if length == 251:
        capture(tmp_path, RULES, sink)
        target = tmp_path.parent / "unpacked"
        target.mkdir()
        unpack(io.BytesIO(sink.data), target, rootless=False)
        assert stat.S_ISCHR((target / ("n" * length)).lstat().st_mode)
        return
    with pytest.raises(ToolError, match=f"/n{{{length}}} was deleted, which a layer cannot say"):
        capture(tmp_path, RULES, sink)


def test_attributes_too_large_for_readers() -> None:
    entry = Entry(b"f", tar_headers.REGULAR, xattrs={b"user.a": bytes(LARGEST_RECORDS)})
    with pytest.raises(ToolError, match="/f has extended attributes"):
        tar_headers.header(entry)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """The error names the file as the view has it."""

    class Sink:
        def write(self, data: bytes) -> None:
            (tmp_path / "tree/b").unlink(missing_ok=True)

    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tree" / name).write_text("x")
    with pytest.raises(ToolError, match="the layer cannot be made: /?b cannot be read: No such file"):
        capture(tmp_path / "tree", RULES, Sink())


def test_copies_of_what_is_deep(tmp_path: Path) -> None:
    """The files of a runtime image, listed and copied."""
    for name in ("full", "slim"):
        (tmp_path / name).mkdir()
    deep_directory(tmp_path / "full", 1_100)
    [path] = view_files.walk(tmp_path / "full")
    Copies(tmp_path / "full", tmp_path / "slim", rootless=False).copy(path)
    assert list(view_files.walk(tmp_path / "slim")) == [path]
    remove_tree(tmp_path / "full")
    remove_tree(tmp_path / "slim")
