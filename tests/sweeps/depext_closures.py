"""The .debs that each depext needs beyond the base: locked once, kept, and downloaded beside what is built of them.

Kept in `work`: `locks.json` (depext -> what apt says of it), `debs/`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Sequence, Set

from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.locking.apt import Apt
from opam_sandbox.locking.apt_lists import Lists
from opam_sandbox.locking.lock_debs import check_names
from tests.support.base_job import fetch
from tests.support.layout_stress import fork

# A lock is a list of these (`LockedDeb` as a dictionary), or a text: apt's reason why there is none.
Deb = Dict[str, Any]

# What a .deb has beside its files that dpkg does not run.
_QUIET = {"control", "md5sums", "sha256sums", "shlibs", "symbols", "conffiles"}
# The one trigger of others that changes nothing of a layer: the linker's cache is made anew in every image.
_LDCONFIG = {"activate-noawait ldconfig", "activate ldconfig"}
_ENOUGH = 10 << 30  # bytes that stay free on the disk
# What two builds and the checks take whatever is in them, and for each megabyte of .debs: measured while both cores were busy.
_SECONDS, _SECONDS_OF_A_MB = 9, 0.5


class Closures:
    """`status`: the text of the base's dpkg status."""

    def __init__(self, work: Path, lists: Lists, status: str) -> None:
        self._work = work
        self._lists = lists
        self._status = status
        self._file = work / "locks.json"
        self._locks: Dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._quiet: Dict[str, bool] = {}
        (work / "debs").mkdir(parents=True, exist_ok=True)

    def lock(self, names: Sequence[str]) -> None:
        """Ask apt for all that it was not asked for yet."""
        for name in names:
            if name not in self._locks:
                self._locks[name] = self._ask(name)
                write_json(os.fspath(self._file), self._locks)

    def _ask(self, name: str) -> Any:
        try:
            check_names([name])
            with Apt(self._lists, self._status) as apt:
                return [vars(deb) for deb in apt.resolve([name])]
        except ToolError as error:
            return str(error)

    def has(self, name: str) -> bool:
        """Whether apt was asked for it."""
        return name in self._locks

    def why_not(self, name: str) -> str:
        """Why a depext cannot be installed; "" if it can."""
        return self._locks[name] if isinstance(self._locks[name], str) else ""

    def debs(self, name: str) -> List[Deb]:
        """The .debs of a depext that can be installed, by name."""
        return self._locks[name]

    def key(self, name: str) -> FrozenSet[str]:
        """What a depext needs, for comparisons: the .debs' checksums."""
        return frozenset(deb["sha256"] for deb in self.debs(name))

    def size(self, name: str) -> int:
        """Bytes of all its .debs."""
        return sum(deb["size"] for deb in self.debs(name))

    def order(self, names: Iterable[str]) -> List[str]:
        """In which order to try these, the same for the same locks. First those that tell most in their time, which have all that
        many others need; then these others, small ones first."""
        left = {name for name in names if not self.why_not(name)}
        keys = {name: self.key(name) for name in left}
        inside = {name: {other for other in left if other != name and keys[other] <= keys[name]} for name in left}
        first: List[str] = []
        others: Set[str] = set()
        while left:
            best = max(left, key=lambda name: ((1 + len(inside[name] & left)) / self._seconds(name), name))
            first.append(best)
            others |= inside[best] & left
            left -= {best, *inside[best]}
        return [*first, *sorted(others, key=lambda name: (self.size(name), name))]

    def _seconds(self, name: str) -> float:
        """About how long it takes to try one."""
        return _SECONDS + _SECONDS_OF_A_MB * self.size(name) / 1e6

    # -- files ---------------------------------------------------------------

    def given(self, deb: Deb) -> Deb:
        """A .deb as requests have it; downloaded if it was not yet."""
        file = self._work / "debs" / deb["path"].rpartition("/")[2]
        if not file.exists() or file.stat().st_size != deb["size"]:
            # Whole or not there: another process may be downloading the same.
            with tempfile.TemporaryDirectory(dir=self._work) as scratch:
                (Path(scratch) / "debs").mkdir()
                os.replace(Path(scratch) / fetch(Path(scratch), deb)["file"], file)
        return {key: deb[key] for key in ("name", "version", "architecture", "sha256", "size")} | {
            "file": os.fspath(file)
        }

    def prepare(self, names: Sequence[str]) -> "Helper":
        """Start a process that locks all of these, and downloads what they need. Downloads stop where the disk gets full."""

        def work() -> None:
            self.lock(names)
            for name in self.order(names):
                self._download(name)

        return Helper(work)

    def _download(self, name: str) -> None:
        free = os.statvfs(self._work)
        if free.f_bavail * free.f_frsize > _ENOUGH:
            for deb in self.debs(name):
                self.given(deb)

    def wait(self, names: Sequence[str], helper: "Helper") -> None:
        """Wait until the helper has locked these. Raises ChildProcessError if it ends before."""
        while True:
            ended = helper.has_ended()
            if self._file.exists():
                self._locks = json.loads(self._file.read_text())
            if self._locks.keys() >= set(names):
                return
            if ended:
                raise ChildProcessError("the process that asks apt has ended")
            time.sleep(1)

    def is_quiet(self, name: str) -> bool:
        """Whether all .debs of a depext are nothing but files to unpack: no scripts, no triggers but the linker's."""
        return all(self._is_quiet(deb) for deb in self.debs(name))

    def _is_quiet(self, deb: Deb) -> bool:
        if deb["sha256"] not in self._quiet:
            self._quiet[deb["sha256"]] = _has_only_files(self.given(deb)["file"])
        return self._quiet[deb["sha256"]]


class Helper:
    """A process of ours that does `work`."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._ended = False
        self._id = fork(work)

    def has_ended(self) -> bool:
        """Without waiting for it."""
        self._ended = self._ended or os.waitpid(self._id, os.WNOHANG)[0] != 0
        return self._ended

    def kill(self) -> None:
        """End it, if it has not ended."""
        if not self.has_ended():
            os.kill(self._id, signal.SIGKILL)

    def wait(self) -> None:
        """Until it has ended."""
        if not self._ended:
            os.waitpid(self._id, 0)
            self._ended = True


def _has_only_files(deb: str) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["dpkg-deb", "--control", deb, scratch], check=True)
        triggers = Path(scratch) / "triggers"
        lines = triggers.read_text().splitlines() if triggers.exists() else []
        wanted = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
        return wanted <= _LDCONFIG and set(os.listdir(scratch)) <= {*_QUIET, "triggers"}
