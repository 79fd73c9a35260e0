"""How much memory scratch files may take: of the machine, of the control groups of either version, and beside other builds."""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Dict, List

import pytest

from opam_sandbox import machine_errors
from opam_sandbox.layer.store import Store
from opam_sandbox.sandbox import control_group, limits, memory, memory_claims
from opam_sandbox.sandbox.memory import available, room
from tests.support import disks

GIB = 1 << 30


def machine(root: Path, free: int, files: Dict[str, str]) -> Path:
    """A directory with the /proc and /sys of a machine that has `free` bytes."""
    meminfo = f"MemTotal: {64 * GIB // 1024} kB\nMemFree: 1 kB\nMemAvailable: {free // 1024} kB\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group(directory: str, limit: str, used: int, cache: int = 0, shared: int = 0) -> Dict[str, str]:
    return {
        f"{directory}/memory.max": f"{limit}\n",
        f"{directory}/memory.current": f"{used}\n",
        f"{directory}/memory.stat": f"anon 5\nfile {cache}\nshmem {shared}\n",
    }


def test_half_is_shared_by_the_cores(tmp_path: Path) -> None:
    root = machine(tmp_path, 24 * GIB, {})
    assert room(2, root=root) == 6 * GIB
    assert room(12, root=root) == 1 * GIB
    assert room(13, root=root) == 0  # too little for one build


def test_an_unknown_machine_has_no_room(tmp_path: Path) -> None:
    assert available(tmp_path) == 0 and room(2, root=tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: much\n")
    assert room(2, root=tmp_path) == 0


def test_the_narrowest_group_counts(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/outer/inner\n"}
    files.update(group("sys/fs/cgroup/outer/inner", "max", 3 * GIB))
    files.update(group("sys/fs/cgroup/outer", str(8 * GIB), 3 * GIB))
    assert available(machine(tmp_path, 20 * GIB, files)) == 5 * GIB


def test_what_a_group_caches_is_free_but_for_shared_memory(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n"}
    files.update(group("sys/fs/cgroup", str(8 * GIB), 6 * GIB, cache=4 * GIB, shared=1 * GIB))
    assert available(machine(tmp_path, 20 * GIB, files)) == 5 * GIB


def test_a_full_group_has_no_room(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", **group("sys/fs/cgroup", str(2 * GIB), 3 * GIB)}
    assert available(machine(tmp_path, 20 * GIB, files)) == 0


def test_groups_of_version_1(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/memory"
    files = {
        "proc/self/cgroup": "9:name=systemd:/a\n4:cpu,memory:/a\n0::/\n",
        f"{top}/a/memory.limit_in_bytes": f"{6 * GIB}\n",
        f"{top}/a/memory.usage_in_bytes": f"{4 * GIB}\n",
        f"{top}/a/memory.stat": f"cache 7\nshmem 7\ntotal_cache {2 * GIB}\ntotal_shmem {1 * GIB}\n",
        f"{top}/memory.limit_in_bytes": "9223372036854771712\n",
        f"{top}/memory.usage_in_bytes": f"{4 * GIB}\n",
        f"{top}/memory.stat": "",
    }
    assert available(machine(tmp_path, 20 * GIB, files)) == 3 * GIB


def test_a_containers_group_stands_where_the_hosts_would(tmp_path: Path) -> None:
    """The path is the host's, but what is mounted is the container's own group."""
    files = {"proc/self/cgroup": "4:memory:/docker/0123\n"}
    top = "sys/fs/cgroup/memory"
    files[f"{top}/memory.limit_in_bytes"] = f"{4 * GIB}\n"
    files[f"{top}/memory.usage_in_bytes"] = f"{1 * GIB}\n"
    files[f"{top}/memory.stat"] = ""
    assert available(machine(tmp_path, 20 * GIB, files)) == 3 * GIB
    # As a process of another group sees it: upwards, out of what is mounted.
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/../../other\n")
    assert available(tmp_path) == 3 * GIB


def test_what_throttles_a_group_is_a_limit(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a\n", **group("sys/fs/cgroup/a", str(8 * GIB), 1 * GIB)}
    files["sys/fs/cgroup/a/memory.high"] = f"{3 * GIB}\n"
    assert available(machine(tmp_path, 20 * GIB, files)) == 2 * GIB
    (tmp_path / "sys/fs/cgroup/a/memory.max").write_text("max\n")
    assert available(tmp_path) == 2 * GIB
    (tmp_path / "sys/fs/cgroup/a/memory.high").write_text("max\n")
    assert available(tmp_path) == 20 * GIB


def test_the_kernels_caches_are_free(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", **group("sys/fs/cgroup", str(4 * GIB), 3 * GIB)}
    files["sys/fs/cgroup/memory.stat"] += f"slab {2 * GIB}\nslab_reclaimable {1 * GIB}\n"
    assert available(machine(tmp_path, 20 * GIB, files)) == 2 * GIB


def test_a_limit_of_version_1_that_is_set_out_of_sight(tmp_path: Path) -> None:
    """A container's own group may have no limit, where one above it has, which is not mounted."""
    files = {"proc/self/cgroup": "4:memory:/docker/0123\n"}
    top = "sys/fs/cgroup/memory"
    files[f"{top}/memory.limit_in_bytes"] = "9223372036854771712\n"
    files[f"{top}/memory.usage_in_bytes"] = f"{1 * GIB}\n"
    files[f"{top}/memory.stat"] = f"hierarchical_memory_limit {2 * GIB}\n"
    assert available(machine(tmp_path, 20 * GIB, files)) == 1 * GIB


def test_what_others_have_claimed_is_left_to_them(tmp_path: Path) -> None:
    root = machine(tmp_path, 24 * GIB, {})
    assert room(2, 6 * GIB, root) == 6 * GIB
    assert room(2, 9 * GIB, root) == 3 * GIB
    assert room(2, 12 * GIB, root) == 0
    assert room(2, 30 * GIB, root) == 0


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records of claims on a machine of 4 cores with 16 GiB."""
    root = machine(tmp_path / "machine", 16 * GIB, {})
    monkeypatch.setattr(memory, "room_for_one", lambda claimed=0: room(4, claimed, root))
    return tmp_path / "claims"


def test_builds_beside_one_another_never_claim_more_than_half(shared: Path) -> None:
    """As many as there are cores get the same, however many there are."""
    with ExitStack() as stack:
        found = [stack.enter_context(memory_claims.claimed(shared)) for _ in range(9)]
        assert found == [2 * GIB] * 4 + [0] * 5
    assert not list(shared.iterdir())
    with memory_claims.claimed(shared) as again:
        assert again == 2 * GIB


def claim_until_killed(records: Path) -> int:
    """A process that has claimed; its pid."""
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with memory_claims.claimed(records):
                os.write(say, b"x")
                signal.pause()
        finally:
            os._exit(1)
    os.close(say)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    return child


def test_a_dead_process_claims_nothing(shared: Path) -> None:
    children = [claim_until_killed(shared) for _ in range(4)]
    with memory_claims.claimed(shared) as beside:
        assert beside == 0
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(list(shared.iterdir())) == 4
    with memory_claims.claimed(shared) as alone:
        assert alone == 2 * GIB
    assert not list(shared.iterdir())


def test_a_claim_that_is_no_number(shared: Path) -> None:
    """A power loss leaves empty files; whoever holds one all the same has claimed nothing."""
    shared.mkdir()
    with open(shared / "empty", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with memory_claims.claimed(shared) as size:
            assert size == 2 * GIB
        assert (shared / "empty").exists()
    with memory_claims.claimed(shared):
        assert not (shared / "empty").exists()


def in_a_group(bound: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[], int]) -> int:
    """What `work` returns in a process in a control group of the kernel's, below one that has this bound."""
    monkeypatch.setattr(limits, "memory", lambda: bound)
    outer = control_group.make()
    if outer is None or not outer.counts_memory():
        pytest.skip("no control group for memory")
    directory = outer._directories["memory"]
    if (directory / "cgroup.subtree_control").exists():
        (directory / "cgroup.subtree_control").write_text("+memory")
    inner = directory / "inner"
    inner.mkdir()

    def inside() -> int:
        (inner / "cgroup.procs").write_text("0")
        return work()

    try:
        return disks.apart(inside)
    finally:
        inner.rmdir()
        outer.remove()


def test_the_kernels_own_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A limit above counts, files in memory take from it, and the cache of files on disk does not."""
    bound = 2 * GIB
    if available() < 4 * GIB:
        pytest.skip("too little memory to tell the group's from the machine's")

    def left_after_writing(directory: Path) -> int:
        (directory / "large").write_bytes(bytes(256 << 20))
        return available()

    def in_memory() -> int:
        with disks.memory(tmp_path, 1 * GIB):
            return left_after_writing(tmp_path)

    empty = in_a_group(bound, monkeypatch, available)
    assert bound - (64 << 20) < empty <= bound
    assert empty - in_a_group(bound, monkeypatch, in_memory) > 250 << 20
    assert abs(empty - in_a_group(bound, monkeypatch, lambda: left_after_writing(tmp_path))) < 64 << 20


def test_scratch_files_lie_in_the_store_where_sandboxes_take_up_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where memory is short, and the store takes up none."""
    if machine_errors.is_in_memory(tmp_path):
        pytest.skip("temporary files lie in memory")
    store = Store(tmp_path / "store", rootless=False)
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()

    def places() -> List[str]:
        found = []
        with disks.memory(sandbox, 1 << 20):
            monkeypatch.chdir(sandbox)
            found += [str(store.place("scratch", 0)), str(store.place("scratch", GIB))]
            found.append(str(Store(sandbox / "store", rootless=False).place("scratch", 0)))
            monkeypatch.chdir(tmp_path)
            found.append(str(store.place("scratch", 0)))
        return found

    short, *others = disks.apart(places)
    assert Path(short).parent == tmp_path / "store/v4/root/tmp"
    assert others == ["scratch"] * 3
