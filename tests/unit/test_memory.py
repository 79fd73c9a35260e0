"""How much memory scratch files may take: of the machine, and of the control groups of either version."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from opam_sandbox.sandbox.memory import available, room

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
    assert room(2, root) == 6 * GIB
    assert room(12, root) == 1 * GIB
    assert room(13, root) == 0  # too little for one build


def test_an_unknown_machine_has_no_room(tmp_path: Path) -> None:
    assert available(tmp_path) == 0 and room(2, tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: much\n")
    assert room(2, tmp_path) == 0


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
