"""scratch: what a killed process leaves is removed by the next one, and nothing else is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Callable, List

import pytest

from opam_sandbox.sandbox.scratch import Scratch, scratch, sweep, temporary


def kill_while(work: Callable[[Callable[[], None]], None]) -> None:
    """Run `work` in another process and kill that when it calls what it is given."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:

        def ready() -> None:
            os.write(writer, b"x")
            time.sleep(60)

        try:
            work(ready)
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def killed_with(records: Path, path: Path) -> None:
    def work(ready: Callable[[], None]) -> None:
        with scratch(records, path) as directory:
            (directory / "closed").mkdir()
            (directory / "closed/file").write_text("")
            os.chmod(directory / "closed", 0)
            ready()

    kill_while(work)


def names(directory: Path) -> List[str]:
    return sorted(os.listdir(directory))


def test_it_is_gone_at_the_end(tmp_path: Path) -> None:
    with scratch(tmp_path / "records", tmp_path / "a/b", mode=0o711) as path:
        assert path == tmp_path / "a/b" and path.stat().st_mode & 0o777 == 0o711
        (path / "file").write_text("")
    assert names(tmp_path / "a") == [] and names(tmp_path / "records") == []


def test_the_next_one_sweeps(tmp_path: Path) -> None:
    killed_with(tmp_path / "records", tmp_path / "dead")
    assert (tmp_path / "dead").exists()
    with scratch(tmp_path / "records", tmp_path / "next"):
        assert names(tmp_path) == ["next", "records"] and len(names(tmp_path / "records")) == 1


def test_who_is_alive_is_left_alone(tmp_path: Path) -> None:
    with scratch(tmp_path / "records", tmp_path / "alive") as path:
        sweep(tmp_path / "records")
        with scratch(tmp_path / "records", tmp_path / "other"):
            pass
        assert path.exists() and len(names(tmp_path / "records")) == 1


def test_a_child_holds_it_as_well(tmp_path: Path) -> None:
    """As the keeper of a container does, whose parent may be killed."""
    held = Scratch(tmp_path / "records", tmp_path / "shared")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        os._exit(0)
    os.close(held._held)
    sweep(tmp_path / "records")
    assert held.path.exists()
    os.write(writer, b"x")
    os.waitpid(child, 0)
    sweep(tmp_path / "records")
    assert not held.path.exists()
    os.close(reader)
    os.close(writer)


def test_another_directory_in_its_place_is_left_alone(tmp_path: Path) -> None:
    killed_with(tmp_path / "records", tmp_path / "dead")
    os.rename(tmp_path / "dead", tmp_path / "moved")
    (tmp_path / "dead").mkdir()
    sweep(tmp_path / "records")
    assert names(tmp_path) == ["dead", "moved", "records"] and names(tmp_path / "records") == []
    os.chmod(tmp_path / "moved/closed", 0o700)


def test_a_directory_that_was_just_made(tmp_path: Path) -> None:
    """Its process was killed before it could record which one it is: then there is nothing in it."""
    (tmp_path / "records").mkdir()
    for name in ("made", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / "records" / name).write_bytes(b"0 0 " + os.fsencode(tmp_path / name))
    (tmp_path / "others/file").write_text("")
    sweep(tmp_path / "records")
    assert names(tmp_path) == ["others", "records"] and names(tmp_path / "records") == []


@pytest.mark.parametrize("text", [b"", b"5", b"1 2 /nowhere/at/all", b"x y z", b"\0 \0 \0"])
def test_a_record_that_makes_no_sense(tmp_path: Path, text: bytes) -> None:
    """Such as one whose process was killed before it had written it."""
    (tmp_path / "records").mkdir()
    (tmp_path / "records/0").write_bytes(text)
    sweep(tmp_path / "records")


def test_a_directory_that_is_there_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError):
        Scratch(tmp_path / "records", tmp_path / "mine")
    assert names(tmp_path / "records") == []


def test_temporary(tmp_path: Path) -> None:
    def work(ready: Callable[[], None]) -> None:
        with temporary(str(tmp_path)):
            ready()

    kill_while(work)
    assert len(names(tmp_path)) == 2
    with temporary(str(tmp_path)) as path:
        assert names(tmp_path) == [f"opam-oci-{os.geteuid()}", path.name] and path.stat().st_mode & 0o777 == 0o700


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    """By a link, which another user may have made in a directory that all may write to."""
    (tmp_path / f"opam-oci-{os.geteuid()}").symlink_to(tmp_path)
    with temporary(str(tmp_path)) as path:
        assert path.is_dir()
    assert names(tmp_path) == [f"opam-oci-{os.geteuid()}"]
