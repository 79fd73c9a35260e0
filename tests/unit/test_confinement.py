"""What confines a view's commands besides owners and modes: descriptors, limits, what tells of the machine."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

import pytest

from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import control_group, limits, syscalls
from opam_sandbox.sandbox.namespaces import run_isolated
from opam_sandbox.sandbox.overlay import Overlay
from tests.unit.conftest import add_programs, directory_for_all, memory_bound, need_namespaces

USER = 47010
ENV = {"PATH": "/bin"}
PHASES = [(False, False), (False, True), (True, False), (True, True)]
IDS = ["root-dpkg", "root-opam", "user-dpkg", "user-opam"]

# Forks as often as it can, each child for as long as the parent lives; prints how many.
BOMB = """perl -e '
    my $n = 0;
    while ($n < 2000) { my $pid = fork; last unless defined $pid; if (!$pid) { sleep 20; exit } $n++ }
    print qq(forks $n\\n)
'"""


@pytest.fixture(scope="module")
def top(root_user: None) -> Iterator[Path]:
    """A directory that every user reaches."""
    need_namespaces()
    with directory_for_all("confinement-") as directory:
        yield directory


@pytest.fixture(scope="module")
def root(top: Path, tiny_root: Path) -> Path:
    copy = top / "layer/root"
    shutil.copytree(tiny_root, copy, symlinks=True)
    add_programs(copy, ["perl", "head", "df"])
    os.chown(copy / "home/opam", 1000, 1000)
    for name in ("var/tmp", "run/lock"):
        (copy / name).mkdir(parents=True)
    return copy


class Inside:
    """Calls a function with a mounted view of `layer` in namespaces, of root's or of a user's; gives what commands printed."""

    def __init__(self, top: Path, layer: Path) -> None:
        self._top, self._layer = top, layer
        self.here = top
        self.before: Callable[[], None] = lambda: None

    def __call__(self, rootless: bool, work: Callable[[Overlay, Callable[..., int]], None], room: int = 1 << 26) -> str:
        self.here = here = Path(tempfile.mkdtemp(prefix="view-", dir=self._top))
        layer = self._layer
        if rootless:  # a layer of the user's own store
            layer = here / "layer"
            shutil.copytree(self._layer, layer, symlinks=True)
            for path in (here, *here.rglob("*")):
                os.chown(path, USER, USER, follow_symlinks=False)

        def inside() -> int:
            overlay = Overlay([layer], here / "scratch", rootless, room)
            with open(here / "log", "wb") as log:
                overlay.mount()

                def run(script: str, user: bool) -> int:
                    return overlay.run(["sh", "-c", script], ENV, log, user=user).returncode

                work(overlay, run)
            overlay.remove()
            return 0

        child = os.fork()
        if child == 0:
            status = 99
            try:
                self.before()
                if rootless:
                    os.setgroups([])
                    os.setresgid(USER, USER, USER)
                    os.setresuid(USER, USER, USER)
                    syscalls.hide_from_others(False)
                with open(here / "error", "w") as sys.stderr:
                    status = run_isolated(inside)
            finally:
                os._exit(status)
        status = os.waitpid(child, 0)[1]
        if status:
            raise ToolError((here / "error").read_text())
        return (here / "log").read_text()


@pytest.fixture
def inside(top: Path, root: Path) -> Inside:
    return Inside(top, root)


def output_of(inside: Inside, rootless: bool, user: bool, script: str) -> str:
    def work(overlay: Overlay, run: Callable[..., int]) -> None:
        assert run(script, user) == 0

    return inside(rootless, work)


@pytest.mark.parametrize("rootless, user", PHASES, ids=IDS)
def test_descriptors(inside: Inside, rootless: bool, user: bool) -> None:
    """None of the caller's: /dev/null of the view and pipes are all there is, and change no file of the machine."""
    held = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(held, True)
    before = os.stat("/dev/null").st_mode
    try:
        script = "ls -l /proc/self/fd; perl -e 'print qq($_ ), chmod(0, qq(/proc/self/fd/$_)) ? 1 : $!+0, qq(\\n) for 0 .. 2'"
        text = output_of(inside, rootless, user, script)
        assert os.stat("/dev/null").st_mode == before
    finally:
        os.close(held)
        os.chmod("/dev/null", 0o666)  # whatever went wrong above, the machine is to stay usable
    shown = dict(re.findall(r"(\d+) -> (\S+)", text))
    listed = shown.pop("3")  # ls's own
    assert listed.startswith("/proc/") and set(shown) == {"0", "1", "2"}
    assert shown["0"] == "/dev/null" and shown["1"].startswith("pipe:") and shown["2"].startswith("pipe:")
    assert "0 30\n" in text  # EROFS


@pytest.mark.parametrize("rootless, user", PHASES, ids=IDS)
def test_limits(inside: Inside, rootless: bool, user: bool) -> None:
    text = output_of(inside, rootless, user, "cat /proc/self/limits /proc/self/oom_score_adj /proc/self/cgroup")
    found = dict(re.findall(r"Max (.+?)  +(\S+ +\S+)", text))
    assert found["core file size"].split() == ["0", "0"]
    assert found["open files"].split() == [str(number) for number in limits.open_files()]
    assert "\n500\n" in text
    assert [line for line in text.splitlines() if re.match(r"\d+:.*:", line) and not line.endswith(":/")] == []
    if limits.counts_by_namespace(os.uname().release) and (rootless or user):
        assert found["processes"].split() == [str(number) for number in limits.processes()]


@pytest.mark.parametrize("rootless, user", PHASES, ids=IDS)
def test_a_fork_bomb(inside: Inside, rootless: bool, user: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets no further than its bound, and nothing of it lives on."""
    if not rootless and not user and not has_control_groups("pids"):
        pytest.skip("nothing bounds root without control groups")
    monkeypatch.setattr(limits, "processes", lambda: (150, 150))

    def work(overlay: Overlay, run: Callable[..., int]) -> None:
        run(BOMB, user)

    bounded = not rootless and has_control_groups("pids")
    if bounded:
        with pytest.raises(ToolError, match="more processes at once than a build may have"):
            inside(rootless, work)
    else:
        inside(rootless, work)
    [forks] = re.findall(r"forks (\d+)", (inside.here / "log").read_text())
    assert 100 <= int(forks) < 150


def has_control_groups(controller: str) -> bool:
    group = control_group.make()
    if group is None:
        return False
    group.remove()
    return controller in group._directories


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "user"])
def test_a_slow_child_has_its_ids_before_the_root_directory_changes(
    inside: Inside, rootless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the kernel may refuse a user namespace in that moment: without one, a build sees other limits and capabilities."""
    set_limits, pivot_root = limits.set_limits, syscalls.pivot_root

    def slow() -> None:
        time.sleep(0.3)
        set_limits()

    def checked(new_root: str, put_old: str) -> None:
        [child] = Path("/proc/thread-self/children").read_text().split()
        if os.readlink(f"/proc/{child}/ns/user") == os.readlink("/proc/self/ns/user"):
            raise OSError("the child has no user namespace yet")
        pivot_root(new_root, put_old)

    seen = "perl -ne 'print if /^Cap/' /proc/self/status; perl -ne 'print if /processes/' /proc/self/limits"
    undisturbed = output_of(inside, rootless, True, seen)
    monkeypatch.setattr(limits, "set_limits", slow)
    monkeypatch.setattr(syscalls, "pivot_root", checked)
    assert output_of(inside, rootless, True, seen) == undisturbed


def test_the_bounding_set_is_the_same_where_the_kernel_gives_no_user_namespace(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that forbids them, or has its most already, builds the same layers."""
    seen = "perl -ne 'print if /^Cap/' /proc/self/status"
    usual = output_of(inside, False, True, seen)
    unshare = syscalls.unshare

    def none_left(flags: int) -> None:
        if flags & syscalls.CLONE_NEWUSER:
            raise OSError(errno.ENOSPC, "no user namespace is left")
        unshare(flags)

    monkeypatch.setattr(syscalls, "unshare", none_left)
    assert output_of(inside, False, True, seen) == usual


def hungry(bound: int) -> str:
    """More than its group may have: the kernel ends the largest, which is this one."""
    return f"perl -e 'my $x = q(x) x {bound + (400 << 20)}; print length $x' || true; echo went on"


def test_memory_that_ran_out_is_an_error(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the command goes on without what the kernel ended, and ends well."""
    if not has_control_groups("memory"):
        pytest.skip("no control group for memory")
    bound = memory_bound()
    monkeypatch.setattr(limits, "memory", lambda: bound)

    def work(overlay: Overlay, run: Callable[..., int]) -> None:
        run(hungry(bound), True)

    with pytest.raises(ToolError, match="memory was short"):
        inside(False, work)
    assert "went on" in (inside.here / "log").read_text()


@pytest.mark.parametrize("rootless, user", PHASES, ids=IDS)
def test_memory_that_ran_out_without_a_group_of_its_own(
    inside: Inside, rootless: bool, user: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user, and for root where no group may be made: the group that the tool itself is in counts."""
    if not has_control_groups("memory"):
        pytest.skip("no control group for memory")
    bound = memory_bound()
    monkeypatch.setattr(limits, "memory", lambda: bound)
    around = control_group.make()
    assert around is not None
    inside.before = around.enter
    monkeypatch.setattr(control_group, "make", lambda: None)

    def work(overlay: Overlay, run: Callable[..., int]) -> None:
        assert run("exit 0", user) == 0
        run(hungry(bound), user)

    try:
        with pytest.raises(ToolError, match="memory was short, .* or of what runs beside it"):
            inside(rootless, work)
    finally:
        around.remove()
    assert "went on" in (inside.here / "log").read_text()


def test_no_group_stays(inside: Inside) -> None:
    def groups() -> List[Path]:
        return [path for path in control_group.TOP.rglob("opam-oci-*") if path.is_dir()]

    before = set(groups())
    output_of(inside, False, True, "exit 0")
    stay = set(groups()) - before
    deadline = time.monotonic() + 20
    # Those of others, who build beside this test, come and go.
    while stay and time.monotonic() < deadline:
        time.sleep(0.1)
        stay = {path for path in stay if path.exists() and not (path / "cgroup.procs").read_text()}
    assert not stay


@pytest.mark.parametrize("version", [1, 2])
def test_where_a_group_is_made(tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the files alone, as the kernel has either version on one machine."""
    if version == 1:
        monkeypatch.setattr(control_group, "_own_groups", lambda: [("pids", "/a"), ("memory", "/b"), ("", "/")])
        (tmp_path / "pids/a").mkdir(parents=True)
        (tmp_path / "memory").mkdir()
        expected = [[tmp_path / "pids/a"], [tmp_path / "memory"]]
    else:
        monkeypatch.setattr(control_group, "_own_groups", lambda: [("", "/user.slice/session.scope")])
        (tmp_path / "user.slice/session.scope").mkdir(parents=True)
        for path in (tmp_path, tmp_path / "user.slice"):
            (path / "cgroup.procs").touch()
        expected = [[tmp_path / "user.slice", tmp_path]] * 2
    found = [
        [path for path in control_group._parents(tmp_path, name) if path != Path("/")] for name in ("pids", "memory")
    ]
    assert [[path for path in paths if path in wanted] for paths, wanted in zip(found, expected)] == expected


@pytest.mark.parametrize("rootless, user", PHASES, ids=IDS)
def test_mounts_say_nothing_of_the_machine(inside: Inside, rootless: bool, user: bool) -> None:
    """Neither its own nor process 1's: where the tool's directories lie, or what else is mounted."""

    def work(overlay: Overlay, run: Callable[..., int]) -> None:
        assert run("cat /proc/self/mountinfo /proc/1/mountinfo /proc/self/mounts", user) == 0

    text = inside(rootless, work)
    here = os.fspath(inside.here)
    assert here not in text and os.path.basename(here) not in text and "lowerdir=" in text
    names = {line.split()[4] for line in text.splitlines() if re.match(r"\d+ \d+ ", line)}
    outside = [
        name for name in names if not name.startswith(("/proc", "/dev", "/home/opam", "/var/tmp", "/run/lock", "/tmp"))
    ]
    assert outside == ["/"]


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "user"])
@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/dev/shm"])
def test_scratch_files_have_one_room(inside: Inside, rootless: bool, place: str) -> None:
    """What a build puts into /tmp and the like counts as what opam unpacks does, and shows as memory that is full."""
    full: List[Optional[bool]] = []

    def work(overlay: Overlay, run: Callable[..., int]) -> None:
        directory = overlay.scratch_files / "build"
        directory.mkdir()
        overlay.chown_to_opam(directory)
        (overlay.root / "home/opam/build").mkdir(exist_ok=True)
        overlay.bind(directory, "home/opam/build", writable=True)
        full.append(overlay.is_full())
        fill = f"head -c 5M /dev/zero > /home/opam/build/a && ! head -c 5M /dev/zero > {place}/b; echo filled"
        assert run(fill, True) == 0
        assert not full[0] and overlay.is_full()

    text = inside(rootless, work, room=8 << 20)
    assert "No space left on device" in text and "filled" in text


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "user"])
def test_without_room_scratch_files_are_on_disk(inside: Inside, rootless: bool) -> None:
    def work(overlay: Overlay, run: Callable[..., int]) -> None:
        run("df /tmp /var/tmp /dev/shm /home/opam; echo x > /tmp/x; echo y > /var/tmp/y", True)
        assert not overlay.is_full()

    kinds: Dict[str, str] = {}
    for line in inside(rootless, work, room=0).splitlines()[1:]:
        kinds[line.split()[-1]] = line.split()[0]
    assert len(kinds) == 4 and "tmpfs" not in kinds.values()


@pytest.mark.parametrize(
    "release, expected", [("5.13.9", False), ("5.14.0-1-amd64", True), ("6.1.0", True), ("4.19", False)]
)
def test_kernels_that_count_by_namespace(release: str, expected: bool) -> None:
    assert limits.counts_by_namespace(release) is expected


@pytest.mark.parametrize("rootless, user", PHASES, ids=IDS)
def test_nothing_outlives_a_command(inside: Inside, rootless: bool, user: bool) -> None:
    """Neither a daemon, nor the command itself when the process that waits for it is killed, as when memory is short."""

    def work(overlay: Overlay, run: Callable[..., int]) -> None:
        assert run("setsid sh -c 'trap \"\" HUP TERM; sleep 20' & exit 7", user) == 7
        assert others() == []
        threading.Thread(target=kill_the_one_that_waits, daemon=True).start()
        assert run("trap '' HUP TERM; sleep 20", user) == 128 + signal.SIGKILL
        assert others() == []

    inside(rootless, work)


def kill_the_one_that_waits() -> None:
    """Once it has started the other two."""
    while len(others()) < 3:
        time.sleep(0.05)
    os.kill(min(others()), signal.SIGKILL)


def others() -> List[int]:
    """The processes of this namespace but for the first: by trying, as /proc is the machine's."""
    found = []
    for number in set(range(2, 200)) - {thread.native_id for thread in threading.enumerate()}:
        try:
            os.kill(number, 0)
            found.append(number)
        except ProcessLookupError:
            continue
    return sorted(found)
