"""An image from nothing where all of it has 1, 2 or 4 GiB of memory: Pants, its daemon and its client, the tool, the builds, what
lies in memory (tmpfs), and the cache of files.

The image has the example's compiler alone if the example builds one, else all its packages; the base is made as well. A control
group (version 1 or 2) is the machine; nothing is swapped. Baselines: the same without a limit, and the limit itself.

What is measured as memory is what the kernel cannot give back when memory is short: programs' own memory, and tmpfs.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

from bench.figures import Row
from bench.session import Session, say
from tests.support.checkout import CommandFailed, Pants
from tests.support.layouts import Layout

GIB = 1 << 30
LIMITS = (1 * GIB, 2 * GIB, 4 * GIB)
COMPILER = "ocaml-compiler"
_TOP = Path("/sys/fs/cgroup")


class Group:
    """A new control group for memory. limit: bytes, None for none."""

    def __init__(self, limit: Optional[int]) -> None:
        self.directory, self.is_v1 = _new_group()
        if limit is not None:
            name = "memory.limit_in_bytes" if self.is_v1 else "memory.max"
            (self.directory / name).write_text(str(limit))
        swap = self.directory / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")
        self.peak, self.in_memory = 0, 0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    @property
    def prefix(self) -> List[str]:
        """What runs a command in it."""
        return ["sh", "-c", f'echo $$ > "{self.directory}/cgroup.procs" && exec "$0" "$@"']

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            found = self._numbers("memory.stat")
            shared = found.get("total_shmem", found.get("shmem", 0))
            self.peak = max(self.peak, found.get("total_rss", found.get("anon", 0)) + shared)
            self.in_memory = max(self.in_memory, shared)

    def _numbers(self, name: str) -> Dict[str, int]:
        lines = (self.directory / name).read_text().splitlines()
        return {key: int(number) for key, number in (line.split() for line in lines)}

    def killed(self) -> int:
        """How many processes the kernel has ended for want of memory, in the groups below too."""
        if not self.is_v1:
            return self._numbers("memory.events").get("oom_kill", 0)
        groups = [self.directory, *(path for path in self.directory.rglob("*") if path.is_dir())]
        return sum(Group._of(path).get("oom_kill", 0) for path in groups)

    @staticmethod
    def _of(directory: Path) -> Dict[str, int]:
        with suppress(OSError):
            lines = (directory / "memory.oom_control").read_text().splitlines()
            return {key: int(number) for key, number in (line.split() for line in lines)}
        return {}

    def remove(self) -> None:
        """Remove it, once its processes have ended. Raises OSError where they do not end within half a minute."""
        self._done.set()
        self._watcher.join()
        for attempt in range(300):
            try:
                for path in sorted((path for path in self.directory.rglob("*") if path.is_dir()), reverse=True):
                    path.rmdir()
                self.directory.rmdir()
                return
            except OSError:
                if attempt == 299:
                    raise
                time.sleep(0.1)


def _new_group() -> "tuple[Path, bool]":
    """Below this process's own, or in version 2 beside it: a group there has either processes or groups."""
    name = f"opam-oci-bench-{secrets.token_hex(4)}"
    places = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            places.append((Path(f"{_TOP}/memory{path}"), True))
        elif not controllers:
            places += [(parent, False) for parent in Path(f"{_TOP}{path}").parents if _TOP in (parent, *parent.parents)]
    for parent, is_v1 in places:
        directory = parent / name
        with suppress(OSError):
            directory.mkdir()
            if (directory / ("memory.limit_in_bytes" if is_v1 else "memory.max")).exists():
                return directory, is_v1
            directory.rmdir()
    raise CommandFailed("no control group for memory can be made here")


@dataclass
class _Run:
    seconds: float
    peak: int
    in_memory: int
    killed: int
    diff_ids: List[str]
    error: str


def _build(session: Session, limit: Optional[int]) -> _Run:
    group = Group(limit)
    pants = session.checkout("memory")
    try:
        _write_image(session, pants)
        start = time.perf_counter()
        confined = Pants(pants.root, caches=pants.caches, options=pants.options, prefix=group.prefix)
        done = confined.run("package", "bench/memory:image", check=False)
        seconds = time.perf_counter() - start
        killed = group.killed()
    finally:
        pants.stop()
        group.remove()
    failed = done.returncode != 0
    layout = None if failed else Layout(pants.root / "dist/bench.memory/image")
    diff_ids = layout.config["rootfs"]["diff_ids"] if layout else []
    run = _Run(seconds, group.peak, group.in_memory, killed, diff_ids, done.stderr[-4000:] if failed else "")
    shutil.rmtree(pants.root.parent)
    return run


def _write_image(session: Session, pants: Pants) -> None:
    example = session.example
    names = {package.name for package in example.packages(pants.root)}
    wanted = (COMPILER,) if COMPILER in names else example.roots
    listed = ", ".join(f'"3rdparty/opam:{example.resolve}#{name}"' for name in wanted)
    directory = pants.root / "bench/memory"
    directory.mkdir()
    (directory / "BUILD").write_text(f'oci_package_image(name="image", packages=[{listed}])\n')


def run(session: Session) -> List[Row]:
    say("without a limit ...")
    free = _build(session, None)
    if free.error:
        raise CommandFailed(free.error)
    rows = [_peak("without a limit", free, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "the machine's")]
    for limit in LIMITS:
        name = f"in {limit // GIB} GiB"
        say(f"{name} ...")
        found = _build(session, limit)
        if found.error:
            # Too little for Pants itself is no failure of the benchmark; another layer is.
            say(f"{name} it does not build:\n{found.error}")
            continue
        if found.diff_ids != free.diff_ids:
            raise CommandFailed(f"{name} other layers were built: {found.diff_ids}, and not {free.diff_ids}")
        rows.append(
            Row("memory", f"from nothing, {name}", found.seconds, "the same without a limit", free.seconds, goal=1.5)
        )
        rows.append(_peak(name, found, limit, "the limit"))
    return rows


def _peak(name: str, run: _Run, limit: int, baseline: str) -> Row:
    details = {"tmpfs": run.in_memory, "killed": run.killed, "seconds": run.seconds}
    return Row("memory", f"peak, {name}", run.peak, baseline, limit, "B", details=details)
