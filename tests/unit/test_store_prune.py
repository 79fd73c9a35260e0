"""Pruning the store: what is listed, what goes, and what stays because somebody uses it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Union

import pytest

from opam_sandbox.layer import store_use
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import FORMAT, Store
from opam_sandbox.locking import cache
from opam_sandbox.publishing import cli
from opam_sandbox.sandbox.scratch import Scratch
from opam_sandbox.store.items import Item, on_disk
from opam_sandbox.store.pruning import DAY, Limits, choose, read_size
from tests.support import disks
from tests.unit.conftest import REPOSITORY, make_layer, make_tar, member

ROOTLESS = os.geteuid() != 0
KIND = "user" if ROOTLESS else "root"
OLD = 40 * DAY


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return tmp_path / "store"


def new_layer(tmp_path: Path, name: str, size: int = 100_000) -> Layer:
    ids = {"uid": os.getuid(), "gid": os.getgid()}
    entries = [member("d", tarfile.DIRTYPE, **ids), member(f"d/{name}", content=name.encode() * size, **ids)]
    return make_layer(tmp_path / f"layer-{name}", make_tar(entries))


def apart(work: Callable[[], object]) -> Any:
    """What `work` returns in a process of its own, which then uses nothing any more."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            with open(writer, "wb") as out:
                pickle.dump(work(), out)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        data = answer.read()
    os.waitpid(child, 0)
    assert data, "the process failed"
    return pickle.loads(data)


def unpack(top: Path, *layers: Layer) -> None:
    """By a process that has ended."""
    apart(lambda: [os.fspath(Store(top, ROOTLESS).get(layer)) for layer in layers])


def entry(top: Path, layer: Layer) -> Path:
    return top / FORMAT / KIND / "layers" / layer.diff_id[len("sha256:") :]


def age(top: Path, layer: Layer, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(entry(top, layer) / "used", (then, then))


def run(capfd: pytest.CaptureFixture[str], *arguments: Union[str, Path]) -> Dict[str, Any]:
    capfd.readouterr()
    assert cli.main([os.fspath(argument) for argument in (*arguments, "--format=json")]) == 0
    found: Dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def removed(data: Dict[str, Any]) -> List[str]:
    return [item["title"] or item["name"] for item in data["removed"]]


def kinds(data: Dict[str, Any]) -> Dict[str, int]:
    return {kind["kind"]: kind["items"] for kind in data["kinds"] if kind["items"]}


# -- what goes -------------------------------------------------------------------


def item(name: str, size: int, days: float, in_use: bool = False) -> Item:
    return Item("layers", name, Path(name), size, 1e9 - days * DAY, in_use)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), []),
        (Limits(days=30), ["old"]),
        (Limits(days=0), ["old", "middle", "new"]),
        (Limits(percent=100), []),
        (Limits(percent=50), ["old", "middle"]),
        (Limits(percent=0), ["old", "middle", "new"]),
        (Limits(max_size=95), ["old"]),
        (Limits(max_size=90), ["old"]),
        (Limits(max_size=89), ["old", "middle"]),
        (Limits(max_size=1000), []),
        (Limits(days=30, max_size=60), ["old", "middle"]),
        (Limits(days=3, max_size=1000), ["old", "middle"]),
    ],
)
def test_the_least_recently_used_go_first(limits: Limits, expected: List[str]) -> None:
    items = [item("new", 30, 1), item("old", 10, 60), item("middle", 40, 5), item("used", 20, 90, in_use=True)]
    assert [one.name for one in choose(items, limits, 1e9)] == expected


@pytest.mark.parametrize(
    ("text", "size"), [("20GiB", 20 << 30), ("20G", 20 << 30), ("1.5 MB", 3 << 19), ("7k", 7 << 10), ("2TiB", 2 << 40)]
)
def test_sizes(text: str, size: int, tmp_path: Path) -> None:
    assert read_size(text, tmp_path) == size


def test_a_part_of_the_disk(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert read_size("25%", tmp_path) == status.f_blocks * status.f_frsize // 4


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--max-size=40"], "'40' is no size"),
        (["--max-size=-1G"], "is no size"),
        (["--max-size=G"], "is no size"),
        (["--max-size=1PiB"], "is no size"),
        (["--max-size=101%"], "more than a disk has"),
        (["--days=-1"], "--days=-1 is no whole number"),
        (["--days=1.5"], "--days=1.5 is no whole number"),
        (["--percent=101"], "more than all"),
        (["--percent=x"], "--percent=x is no whole number"),
        (["--kind=locks"], "what can be pruned is layers, libraries"),
    ],
)
def test_bad_options(top: Path, options: List[str], error: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prune", os.fspath(top), *options]) == 1
    assert error in capfd.readouterr().err and not top.exists()


# -- layers ------------------------------------------------------------------------


def test_usage_and_prune(tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, two, three = (new_layer(tmp_path, name, size) for name, size in (("a", 300_000), ("b", 200_000), ("c", 1000)))
    unpack(top, one, two, three)
    age(top, one, OLD)
    age(top, two, 3 * DAY)
    data = run(capfd, "usage", top)
    [layers] = [kind for kind in data["kinds"] if kind["kind"] == "layers"]
    assert (layers["items"], layers["in_use"]) == (3, 0) and 500_000 < layers["size"] < 600_000
    bands = {band["days"]: (band["items"], band["would_free"]) for band in data["ages"]}
    assert [bands[days][0] for days in (0, 2, 30, 90)] == [1, 1, 1, 0]
    assert 300_000 < bands[30][1] < 330_000 and bands[90][1] == 0
    plan = run(capfd, "prune", top, "--days=30", "--dry-run")
    assert len(plan["removed"]) == 1 and plan["freed"] == bands[30][1] and entry(top, one).exists()
    done = run(capfd, "prune", top, "--days=30")
    assert [{**plan, "dry_run": False}] == [done] and not entry(top, one).exists()
    assert removed(run(capfd, "prune", top, "--max-size=100K")) == ["p.1"] and entry(top, three).exists()
    assert sorted(os.listdir(top / FORMAT / KIND / "locks")) == [f"{three.diff_id[7:]}.lock"]
    # What was pruned is made again, and is the same.
    content = apart(lambda: (Store(top, ROOTLESS).get(one) / "d/a").read_bytes())
    assert content == b"a" * 300_000
    assert os.listdir(top / FORMAT / KIND / "gone") == []


def test_text(tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    layer = new_layer(tmp_path, "a", 3 << 20)
    unpack(top, layer)
    age(top, layer, OLD)
    assert cli.main(["usage", os.fspath(top)]) == 0
    text = capfd.readouterr().out
    assert text.startswith(f"{top}: 3.0 MiB\n") and "--days=30: 3.0 MiB" in text and "--percent=50: 3.0 MiB" in text
    assert cli.main(["prune", os.fspath(top), "--days=30", "--dry-run"]) == 0
    assert "Would remove 3.0 MiB of 3.0 MiB (layers 1)." in capfd.readouterr().out
    assert cli.main(["prune", os.fspath(top), "--max-size=1M", "--brief"]) == 0
    assert capfd.readouterr().out == f"Removed 3.0 MiB of 3.0 MiB (layers 1). {top} holds 0 B now.\n"
    assert cli.main(["prune", os.fspath(top), "--max-size=1M", "--brief"]) == 0
    assert capfd.readouterr().out == ""


def test_a_title_of_elsewhere_does_nothing_to_a_terminal(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    apart(lambda: os.fspath(Store(top, ROOTLESS).put("a" * 64, lambda target: None, "evil\x1b[2J\nname")))
    assert removed(run(capfd, "prune", top, "--days=0")) == ["evil?[2J?name"]


def test_what_this_process_uses_stays(tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    layer, other = new_layer(tmp_path, "a"), new_layer(tmp_path, "b")
    unpack(top, other)
    store = Store(top, ROOTLESS)
    path = store.get(layer)
    data = run(capfd, "prune", top, "--days=0", "--max-size=0K")
    assert [len(data["removed"]), len(data["left"])] == [1, 1] and (path / "d/a").exists()
    assert data["left"][0]["why"] == "it is in use" and not entry(top, other).exists()


def hold_in_child(top: Path, layer: Layer) -> int:
    """A process that uses the layer until it is killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        Store(top, ROOTLESS).get(layer)
        os.write(writer, b"x")
        time.sleep(60)
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    return child


def test_what_another_process_uses_stays_until_it_is_killed(
    tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layer = new_layer(tmp_path, "a")
    child = hold_in_child(top, layer)
    try:
        age(top, layer, OLD)
        assert run(capfd, "prune", top, "--days=0")["removed"] == []
        assert run(capfd, "usage", top)["kinds"][0]["in_use"] == 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(run(capfd, "prune", top, "--days=0")["removed"]) == 1


def test_what_a_view_shows_stays(tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As long as a program runs in it that the store's own process has started."""
    layer = new_layer(tmp_path, "a")
    script = (
        "import os, sys, time; from pathlib import Path; from opam_sandbox.layer.store import Store\n"
        "from opam_sandbox.layer.description import read_layer; from opam_sandbox.sandbox.stack import Stack\n"
        "from opam_sandbox.sandbox.namespaces import run_isolated\n"
        "def inside():\n"
        "    store = Store(Path(sys.argv[1]), os.getuid() != 0)\n"
        "    stack = Stack([store.get(read_layer(Path(sys.argv[2])))], Path(sys.argv[3]), store.rootless)\n"
        "    stack.mount(); print('mounted', flush=True); sys.stdin.readline()\n"
        "    print((stack.root / 'd/a').stat().st_size); stack.remove(); return 0\n"
        "rootless = os.getuid() != 0\n"
        "sys.exit(run_isolated(inside))\n"
    )
    argv = [sys.executable, "-c", script, os.fspath(top), os.fspath(layer.directory), os.fspath(tmp_path / "scratch")]
    env = {**os.environ, "PYTHONPATH": os.fspath(REPOSITORY / "src")}
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "mounted\n"
    assert run(capfd, "prune", top, "--days=0")["removed"] == []
    out, _ = process.communicate("go\n", timeout=60)
    assert (out, process.returncode) == ("100000\n", 0)
    assert len(run(capfd, "prune", top, "--days=0")["removed"]) == 1


def test_what_was_used_after_it_was_listed_stays(tmp_path: Path, top: Path) -> None:
    layer = new_layer(tmp_path, "a")
    unpack(top, layer)
    age(top, layer, OLD)
    store = Store(top, ROOTLESS)
    listed = store_use.last_used(entry(top, layer))
    unpack(top, layer)  # by a process that has ended when it is to go
    assert store.take_away(entry(top, layer), listed) is None and entry(top, layer).exists()


def test_uses_are_recorded_to_ten_minutes(tmp_path: Path, top: Path) -> None:
    layer = new_layer(tmp_path, "a")
    unpack(top, layer)
    for seconds, again in ((500, False), (700, True), (-700, True)):  # also where the clock was set back
        age(top, layer, seconds)
        before = store_use.last_used(entry(top, layer))
        unpack(top, layer)
        assert (store_use.last_used(entry(top, layer)) != before) is again, seconds


@pytest.mark.parametrize("made_again", [False, True])
def test_one_that_goes_between_look_and_lock_is_made_again(
    tmp_path: Path, top: Path, monkeypatch: pytest.MonkeyPatch, made_again: bool
) -> None:
    """The reader has opened the entry's file when it goes; perhaps somebody else has made it again when the reader looks."""
    layer = new_layer(tmp_path, "a")
    unpack(top, layer)
    real, tries = store_use._lock, []

    def lock(held: int, path: str, kind: int) -> None:
        tries.append(path)
        if len(tries) == 1:
            apart(lambda: cli.main(["prune", os.fspath(top), "--days=0", "--brief"]))
            assert not entry(top, layer).exists()
            if made_again:
                unpack(top, layer)
        real(held, path, kind)

    monkeypatch.setattr(store_use, "_lock", lock)
    path = Store(top, ROOTLESS).get(layer)
    assert (path / "d/a").stat().st_size == 100_000
    apart(lambda: cli.main(["prune", os.fspath(top), "--days=0", "--brief"]))
    assert (path / "d/a").stat().st_size == 100_000


def test_a_damaged_one_stays_below_those_who_use_it(tmp_path: Path, top: Path) -> None:
    """It is made again beside, and deleted when they have ended."""
    layer = new_layer(tmp_path, "a")
    first = Store(top, ROOTLESS)
    path = first.get(layer)
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    (path.parent / "inventory").write_bytes(b"")
    (path.parent / "checked").unlink()
    unpack(top, layer)
    assert os.listdir(file) == ["d"] and len(os.listdir(top / FORMAT / KIND / "gone")) == 1
    assert first.get(layer) == path and os.listdir(file) == ["d"]
    os.close(file)
    del first
    held = [int(name) for name in os.listdir("/proc/self/fd")]
    for descriptor in held:
        if os.path.exists(f"/proc/self/fd/{descriptor}") and "/gone/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            os.close(descriptor)
    unpack(top, new_layer(tmp_path, "b"))
    assert os.listdir(top / FORMAT / KIND / "gone") == []


@pytest.mark.parametrize("how", ["prune", "build"])
def test_a_killed_deletion_is_ended_by_the_next_one(
    tmp_path: Path, top: Path, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    layer = new_layer(tmp_path, "a")
    unpack(top, layer)

    def die() -> None:
        from opam_sandbox.store import pruning

        pruning.remove_tree = lambda path: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[attr-defined]
        cli.main(["prune", os.fspath(top), "--days=0"])

    child = os.fork()
    if child == 0:
        die()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    gone = top / FORMAT / KIND / "gone"
    assert len(os.listdir(gone)) == 1 and not entry(top, layer).exists()
    if how == "prune":
        assert kinds(run(capfd, "usage", top))["leftovers"] == 1
        assert len(run(capfd, "prune", top)["removed"]) == 1
    else:
        unpack(top, layer)
    assert os.listdir(gone) == []


# -- other kinds -------------------------------------------------------------------


def test_all_kinds(tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each is listed with its size, and pruned by itself."""
    apart(lambda: os.fspath(Store(top, ROOTLESS).put("a" * 64, lambda target: None, "sorted-readdir.so")))
    unpack(top, new_layer(tmp_path, "a"))
    old = time.time() - OLD
    files = ["compiled/k", f"locking-v2/uid-{os.getuid()}/apt/m/lists", f"locking-v2/uid-{os.getuid()}/archives/x"]
    files += [f"v1/{KIND}/layers/e/root/f", f"{FORMAT}/{KIND}/tmp/half/f", f"run/{KIND}/1-ab/f", "what/f"]
    files += ["failed/a.1/20260101T000000Z-00000000/build.log", "asked/12"]
    for name in files:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10_000)
        for one in (path, *path.parents):
            if one != top and top in one.parents:
                os.utime(one, (old, old))
    data = run(capfd, "usage", top)
    records = kinds(data).pop("records")
    expected = {"layers": 1, "libraries": 1, "bytecode": 1, "failed": 1, "locking": 2, "versions": 1}
    expected.update(leftovers=2, unknown=1)
    assert kinds(data) == {**expected, "records": records}
    assert data["size"] == sum(kind["size"] for kind in data["kinds"]) >= 7 * 10_000
    for kind in ("bytecode", "failed", "locking", "versions", "libraries"):
        done = run(capfd, "prune", top, f"--kind={kind}", "--days=0")
        assert {one["kind"] for one in done["removed"]} == {kind} and len(done["removed"]) == expected[kind]
        expected.pop(kind)
        assert kinds(run(capfd, "usage", top)) == {**expected, "records": records}
    assert len(run(capfd, "prune", top)["removed"]) == 2
    assert kinds(run(capfd, "usage", top)) == {"layers": 1, "unknown": 1, "records": records}
    assert (top / "what/f").exists()


def test_what_lock_commands_use_stays(tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = time.time() - OLD
    apart(lambda: os.fspath(cache.directory(os.fspath(top), "apt", "mirror")))
    mirror = top / f"locking-v2/uid-{os.getuid()}/apt/mirror"
    os.utime(mirror, (old, old))
    top.chmod(0o700)
    child = os.fork()
    if child == 0:
        cache.directory(os.fspath(top), "apt")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    try:
        assert run(capfd, "prune", top, "--days=0")["removed"] == [] and mirror.exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    # Nor what was used a moment ago: the next step of the same run wants it.
    os.utime(mirror)
    assert run(capfd, "prune", top, "--days=0")["removed"] == []
    os.utime(mirror, (old, old))
    assert len(run(capfd, "prune", top, "--days=0")["removed"]) == 1 and not mirror.exists()


def test_a_running_container_or_build_is_no_leftover(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = Store(top, ROOTLESS)
    held = Scratch(store.scratch_records, top / "run" / KIND / "1-ab")
    old = time.time() - OLD
    os.utime(held.path, (old, old))
    assert run(capfd, "prune", top, "--days=0")["removed"] == [] and held.path.exists()
    held.remove()


def test_what_a_record_names_is_removed_only_if_it_is_that(
    tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was killed before it had written its record, and the directory of another one is somebody's by now."""
    store = Store(top, ROOTLESS)
    somebodys = tmp_path / "somebodys"
    for directory in (somebodys, top / "run" / KIND / "1-ab"):
        directory.mkdir(parents=True)
        (directory / "f").write_text("mine")
    monkeypatch.chdir(somebodys)
    (store.scratch_records / "01").write_bytes(b"")
    (store.scratch_records / "02").write_bytes(b"0 0 ")
    (store.scratch_records / "03").write_bytes(b"1 1 " + os.fsencode(somebodys))
    (store.scratch_records / "04").write_bytes(b"1 1 " + os.fsencode(top / "run" / KIND / "1-ab"))
    (store.scratch_records / "05").write_bytes(b"\0" * 20)
    data = run(capfd, "prune", top, "--days=0", "--dry-run")
    assert "" not in [item["name"] for item in data["removed"]]
    data = run(capfd, "prune", top, "--days=0")
    assert (somebodys / "f").read_text() == "mine" and "somebodys" not in removed(data)
    assert os.listdir(store.scratch_records) == []


def test_another_version_that_runs_stays(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    held = Scratch(top / "v3" / KIND / "scratch", top.parent / "elsewhere")
    (top / "v3" / KIND / "layers").mkdir()
    top.chmod(0o700)
    assert run(capfd, "prune", top, "--days=0")["removed"] == [] and (top / "v3").exists()
    held.remove()
    assert removed(run(capfd, "prune", top, "--days=0")) == ["v3"]


# -- places ------------------------------------------------------------------------


def test_nothing_there_yet(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "usage", top)["size"] == 0
    assert run(capfd, "prune", top, "--days=0", "--max-size=10%")["removed"] == []
    assert not top.exists()


@pytest.mark.parametrize("directory", [False, True])
def test_what_is_removed_while_it_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: bool) -> None:
    """Once it has been seen, another process removes it."""
    path = tmp_path / "item"
    (path / "a").mkdir(parents=True) if directory else path.write_bytes(b"x" * 5000)
    size = os.lstat(path).st_blocks * 512
    look = os.lstat

    def look_and_remove(found: Any) -> os.stat_result:
        result = look(found)
        if os.fspath(found) == os.fspath(path):
            path.rename(tmp_path / "gone")
        return result

    with monkeypatch.context() as patched:
        patched.setattr(os, "lstat", look_and_remove)
        assert on_disk(path) == size
    assert on_disk(path) == 0


def test_a_file_in_its_place(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    top.write_text("")
    for command in ("usage", "prune"):
        assert cli.main([command, os.fspath(top)]) == 1
        assert f"error: {top} is not a directory" in capfd.readouterr().err


def test_a_link_in_its_place(tmp_path: Path, top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    layer = new_layer(tmp_path, "a")
    (tmp_path / "elsewhere").mkdir()
    top.symlink_to(tmp_path / "elsewhere")
    unpack(top, layer)
    data = run(capfd, "prune", top, "--days=0")
    assert len(data["removed"]) == 1 and data["store"] == os.fspath(tmp_path / "elsewhere") and top.is_symlink()


def test_another_users_is_left_alone(tmp_path: Path, top: Path, root_user: None) -> None:
    layer = new_layer(tmp_path, "a")
    unpack(top, layer)
    for path in (top, *top.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    done = subprocess.run(
        [sys.executable, "-m", "opam_sandbox.publishing", "prune", os.fspath(top), "--days=0"],
        env={**os.environ, "PYTHONPATH": os.fspath(REPOSITORY / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1 and "belongs to user 12345" in done.stderr and entry(top, layer).exists()


def test_a_full_disk(tmp_path: Path, root_user: None) -> None:
    """Pruning is the way out, and needs no room."""

    def work() -> object:
        with disks.memory(tmp_path / "at", 8 << 20):
            top = tmp_path / "at/store"
            unpack(top, new_layer(tmp_path, "a", 1 << 20))
            with open(tmp_path / "at/fill", "wb", buffering=0) as out:
                try:
                    while out.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            code = apart(lambda: cli.main(["prune", os.fspath(top), "--days=0"]))
            status = os.statvfs(top)
            return code, os.listdir(top / FORMAT / KIND / "layers"), status.f_bavail * status.f_frsize > 1 << 20

    (tmp_path / "at").mkdir()
    assert disks.apart(work) == (0, [], True)


def test_a_read_only_disk(tmp_path: Path, root_user: None) -> None:
    def work() -> object:
        with disks.memory(tmp_path / "at", 8 << 20):
            top = tmp_path / "at/store"
            unpack(top, new_layer(tmp_path, "a"))
            apart(lambda: os.fspath(cache.directory(os.fspath(top), "apt", "mirror")))
            (top / "v1/root/scratch").mkdir(parents=True)
            subprocess.run(["mount", "-o", "remount,ro", tmp_path / "at"], check=True)
            codes = [
                apart(lambda: cli.main(["usage", os.fspath(top)])),
                apart(lambda: cli.main(["prune", os.fspath(top), "--days=0"])),
            ]
            return codes, len(os.listdir(top / FORMAT / KIND / "layers"))

    (tmp_path / "at").mkdir()
    assert disks.apart(work) == ([0, 1], 1)


def test_titles_say_which_package(tmp_path: Path, top: Path) -> None:
    layer = new_layer(tmp_path, "a")
    unpack(top, layer)
    assert (entry(top, layer) / "title").read_text() == layer.title
