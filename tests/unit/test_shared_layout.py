"""Layout directories that many write to: what is in them is whole at every moment, whoever dies."""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.oci import stage_blob
from opam_sandbox.oci.check_layout import problems
from opam_sandbox.oci.shared_layout import SharedLayout
from opam_sandbox.publishing import cli
from tests.support.layout_stress import fork, make_images
from tests.support.small_images import MANIFEST_TYPE, make_image, numbered_image, write_index, write_json_blob
from tests.unit.conftest import REPOSITORY


def index(layout: Path) -> Dict[str, str]:
    return SharedLayout(layout).names()


def blobs(layout: Path) -> List[str]:
    return sorted(path.name for path in (layout / "blobs" / "sha256").iterdir())


@pytest.fixture
def images(tmp_path: Path) -> List[Path]:
    return make_images(tmp_path / "images", 4, 2_000)


def test_add(tmp_path: Path, images: List[Path]) -> None:
    """Shared blobs are there once; an entry of the same name is replaced, others stay."""
    layout = SharedLayout(tmp_path / "layout")
    added = layout.add(images[0], ["a:1", "a:latest"])
    assert (added.linked + added.copied, added.present) == (6, 0)
    added = layout.add(images[1], ["a:latest"])
    assert (added.linked + added.copied, added.present) == (3, 3)
    assert index(layout.directory) == {"a:1": digest_of(images[0]), "a:latest": digest_of(images[1])}
    assert layout.add(images[1], ["a:latest"]).bytes == 0
    assert problems(layout.directory) == []


def digest_of(image: Path) -> str:
    digest: str = json.loads((image / "index.json").read_text())["manifests"][0]["digest"]
    return digest


def test_links_only_what_nobody_may_write(tmp_path: Path, images: List[Path]) -> None:
    read_only = images[0] / "blobs" / "sha256"
    for path in read_only.iterdir():
        path.chmod(0o555)
    assert SharedLayout(tmp_path / "layout").add(images[0], ["a"]).linked == 6
    added = SharedLayout(tmp_path / "layout").add(images[1], ["b"])
    assert (added.linked, added.copied) == (0, 3)
    for path in (tmp_path / "layout" / "blobs" / "sha256").iterdir():
        assert not stat.S_IMODE(path.stat().st_mode) & 0o222


@pytest.mark.parametrize("link", [True, False])
def test_damaged_blob(tmp_path: Path, images: List[Path], link: bool) -> None:
    blob = max((images[0] / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"x" * blob.stat().st_size)
    blob.chmod(0o444 if link else 0o644)
    layout = SharedLayout(tmp_path / "layout")
    layout.add(images[1], ["b"])
    with pytest.raises(ToolError, match=f"{blob.name} is damaged"):
        layout.add(images[0], ["a"])
    assert list(index(layout.directory)) == ["b"]
    assert list((layout.directory / ".opam-oci" / "tmp").iterdir()) == []
    assert problems(layout.directory) == []


def test_remove(tmp_path: Path, images: List[Path]) -> None:
    """A tag goes with what only it referred to."""
    layout = SharedLayout(tmp_path / "layout")
    for number, image in enumerate(images):
        layout.add(image, [f"i:{number}"])
    layout.add(images[0], ["same"])
    assert layout.remove(["i:0"]).blobs == 0
    assert layout.remove(["same"]).blobs == 3
    with pytest.raises(ToolError, match="no image named i:0"):
        layout.remove(["i:0", "i:1"])
    assert sorted(index(layout.directory)) == ["i:1", "i:2", "i:3"]
    assert problems(layout.directory) == []
    layout.remove(["i:1", "i:2", "i:3"])
    assert blobs(layout.directory) == []


def test_referrers_come_and_go_with_their_image(tmp_path: Path, images: List[Path]) -> None:
    image = json.loads((images[0] / "index.json").read_text())["manifests"][0]
    config = write_json_blob(images[0], {}, "application/vnd.oci.empty.v1+json")
    about = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [], "subject": image}
    write_index(images[0], [image, write_json_blob(images[0], about, MANIFEST_TYPE)])
    layout = SharedLayout(tmp_path / "layout")
    for _ in range(2):
        layout.add(images[0], ["a"])
        assert len(json.loads((layout.directory / "index.json").read_text())["manifests"]) == 2
    layout.collect()
    assert len(blobs(layout.directory)) == 8
    layout.remove(["a"])
    assert blobs(layout.directory) == []


def test_collection_refuses_what_it_cannot_read(tmp_path: Path, images: List[Path]) -> None:
    """A manifest that is damaged may refer to anything: nothing is deleted."""
    layout = SharedLayout(tmp_path / "layout")
    layout.add(images[0], ["a"])
    layout.add(images[1], ["b"])
    manifest = layout.directory / "blobs" / "sha256" / digest_of(images[0])[7:]
    manifest.chmod(0o644)
    manifest.write_text("{")
    before = blobs(layout.directory)
    with pytest.raises(ToolError, match="cannot be read"):
        layout.remove(["b"])
    assert blobs(layout.directory) == before and sorted(index(layout.directory)) == ["a", "b"]
    assert any("sha256" in problem for problem in problems(layout.directory))


def test_foreign_directory(tmp_path: Path, images: List[Path]) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ToolError, match="is not an OCI image layout .it holds"):
        SharedLayout(tmp_path).add(images[0], ["a"])
    assert not (tmp_path / "index.json").exists()


def test_entries_of_other_tools_stay(tmp_path: Path, images: List[Path]) -> None:
    """In a layout that another tool made, with fields that this one does not know."""
    layout = tmp_path / "layout"
    make_image(layout, [{"f": b"x"}])
    data = json.loads((layout / "index.json").read_text())
    data["annotations"] = {"org.example": "kept"}
    data["manifests"][0]["platform"] = {"architecture": "amd64", "os": "linux"}
    (layout / "index.json").write_text(json.dumps(data))
    SharedLayout(layout).add(images[0], ["a"])
    after = json.loads((layout / "index.json").read_text())
    assert after["annotations"] == data["annotations"] and data["manifests"][0] in after["manifests"]
    assert len(after["manifests"]) == 2 and problems(layout) == []


@pytest.mark.parametrize("name", ["", "-a", "a b", "a:", "../a", "a\n"])
def test_bad_names(tmp_path: Path, images: List[Path], name: str) -> None:
    with pytest.raises(ToolError, match="cannot name an image"):
        SharedLayout(tmp_path / "layout").add(images[0], [name])
    assert not (tmp_path / "layout").exists()


def test_group_directory(tmp_path: Path, images: List[Path]) -> None:
    """A directory that a group may write to stays one, whatever the umask is."""
    layout = tmp_path / "layout"
    layout.mkdir()
    layout.chmod(0o2775)
    before = os.umask(0o077)
    try:
        SharedLayout(layout).add(images[0], ["a"])
    finally:
        os.umask(before)
    for path in (layout / "blobs", layout / "blobs/sha256", layout / ".opam-oci", layout / ".opam-oci/tmp"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o2775, path
    assert stat.S_IMODE((layout / ".opam-oci/lock").stat().st_mode) == 0o664
    assert stat.S_IMODE((layout / "index.json").stat().st_mode) == 0o664
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (layout / "blobs/sha256").iterdir())


# Crashes.

_CALLS = ("rename", "link", "fsync", "mkdir", "fchmod", "unlink", "open", "chmod")


def die_at(number: int) -> None:
    """Have this process kill itself before its `number`-th call of those that change the disk."""
    calls = itertools.count(1)

    def wrap(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:  # one step of the interpreter, also with several threads
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    for name in _CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def kill_everywhere(work: Any, check: Any) -> int:
    """Run `work` in children that die one call later each; returns how many died."""
    for number in range(1, 1000):

        def die_in_work() -> None:
            die_at(number)
            work()

        pid = fork(die_in_work)
        status = os.waitpid(pid, 0)[1]
        check()
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return number
    raise AssertionError("it never ends")


@pytest.mark.parametrize("link", [True, False])
def test_killed_at_every_step_of_adding(tmp_path: Path, images: List[Path], link: bool) -> None:
    layout = tmp_path / "layout"
    SharedLayout(layout).add(images[0], ["tag", "first"])
    for path in (images[1] / "blobs" / "sha256").iterdir():
        path.chmod(0o444 if link else 0o644)
    seen = set()

    def check() -> None:
        assert problems(layout) == []
        names = index(layout)
        assert names["first"] == digest_of(images[0])
        seen.add(names["tag"])
        # From the same state again, however far it came.
        SharedLayout(layout).add(images[0], ["tag"])
        SharedLayout(layout).collect()
        assert list((layout / ".opam-oci" / "tmp").iterdir()) == []
        assert len(blobs(layout)) == 6

    steps = kill_everywhere(lambda: SharedLayout(layout).add(images[1], ["tag"]), check)
    assert steps > 20 and seen == {digest_of(images[0]), digest_of(images[1])}


def test_killed_at_every_step_of_making_the_directory(tmp_path: Path, images: List[Path]) -> None:
    numbers = iter(range(1000))
    current = [tmp_path / "none"]

    def work() -> None:
        SharedLayout(current[0]).add(images[0], ["a"])

    def check() -> None:
        if (current[0] / "oci-layout").exists():
            assert problems(current[0]) == []
        SharedLayout(current[0]).add(images[1], ["b"])
        assert problems(current[0]) == []
        current[0] = tmp_path / f"layout-{next(numbers)}"

    assert kill_everywhere(work, check) > 20


def test_killed_at_every_step_of_removing(tmp_path: Path, images: List[Path]) -> None:
    layout = tmp_path / "layout"
    SharedLayout(layout).add(images[0], ["keep"])

    def work() -> None:
        SharedLayout(layout).remove(["go"])

    def check() -> None:
        assert problems(layout) == []
        assert index(layout)["keep"] == digest_of(images[0])
        SharedLayout(layout).add(images[1], ["go"])
        assert problems(layout) == []

    SharedLayout(layout).add(images[1], ["go"])
    assert kill_everywhere(work, check) > 10


def test_collection_between_staging_and_index(
    tmp_path: Path, images: List[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that was there when the writer looked is deleted before it has the lock: it is put in again."""
    layout = SharedLayout(tmp_path / "layout")
    layout.add(images[0], ["a"])
    fetch = stage_blob.fetch
    once = iter([True])

    def slow(*args: Any) -> bool:
        if next(once, False):
            SharedLayout(layout.directory).remove(["a"])
        return fetch(*args)

    monkeypatch.setattr(stage_blob, "fetch", slow)
    added = layout.add(images[1], ["b"])
    assert list(index(layout.directory)) == ["b"] and problems(layout.directory) == []
    assert added.linked + added.copied == 6


def test_a_live_writers_staging_directory_is_left_alone(tmp_path: Path, images: List[Path]) -> None:
    layout = SharedLayout(tmp_path / "layout")
    layout.add(images[0], ["a"])
    with layout._stage() as stage:
        (stage / "f").touch()

        def collect() -> None:
            SharedLayout(layout.directory).collect()

        pid = fork(collect)
        assert os.waitpid(pid, 0)[1] == 0
        assert (stage / "f").exists()
    assert not stage.exists()


def test_many_writers_and_killed_publishers() -> None:
    """In a process of its own: forking one that has run Pants' engine takes long."""
    done = subprocess.run(
        [sys.executable, "bench/shared_layout.py", "--rounds=2", "--kills=12", "--seed=7"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", ".", *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["entries"] == [40, 40]
    assert figures["kills"] == 12 and figures["published"]


# The command line.


def run(capfd: "pytest.CaptureFixture[str]", *arguments: object) -> Tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return status, captured.out, captured.err


def test_command_line(tmp_path: Path, images: List[Path], capfd: "pytest.CaptureFixture[str]") -> None:
    layout = tmp_path / "layout"
    assert run(capfd, "add", layout, "--image", images[0], "--name", "a:1", "--name", "b:1")[0] == 0
    assert run(capfd, "list", layout)[1] == f"{digest_of(images[0])} a:1\n{digest_of(images[0])} b:1\n"
    assert run(capfd, "check", layout) == (0, "", "")
    assert run(capfd, "remove", layout, "c:1") == (1, "", f"error: {layout} has no image named c:1\n")
    assert run(capfd, "remove", layout, "c:1", "a:1", "--missing-ok")[0] == 0
    assert json.loads(run(capfd, "remove", layout, "b:1")[1])["blobs"] == 6
    assert json.loads(run(capfd, "collect", layout)[1]) == {"blobs": 0, "bytes": 0, "names": []}
    status, out, err = run(capfd, "check", tmp_path / "none")
    assert status == 1 and "cannot be read" in out and err == ""
    assert run(capfd, "collect", tmp_path / "none")[0] == 1


def test_interrupted(tmp_path: Path) -> None:
    """SIGINT and SIGTERM end it with 130 and clean up; nothing is half there."""
    numbered_image(tmp_path / "image", 1)
    layout = tmp_path / "layout"
    SharedLayout(layout).add(tmp_path / "image", ["a"])
    numbered_image(tmp_path / "other", 2)
    program = (
        # A shell that runs tests in the background has them, and what they start, ignore SIGINT.
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from opam_sandbox.oci import stage_blob\n"
        "from opam_sandbox.publishing import cli\n"
        # Busy until the signal has been sent, however slow the machine is, and a little longer.
        "stage_blob.fetch = lambda *a: (print('here', flush=True), sys.stdin.read(), time.sleep(0.5))\n"
        f"sys.exit(cli.main(['add', {str(layout)!r}, '--image', {str(tmp_path / 'other')!r}, '--name', 'b']))"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(number)
        process.stdin.close()
        assert process.wait() == 130
        assert process.stderr.read() == b"interrupted\n"
        process.stdout.close()
        process.stderr.close()
        assert list((layout / ".opam-oci" / "tmp").iterdir()) == []
        assert list(index(layout)) == ["a"]
