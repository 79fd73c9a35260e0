"""Every Debian package that the public opam repository's packages name as a depext, installed in a layer of its own.

    PYTHONPATH=.:src:pants-plugins $(build-support/test-python) -m tests.sweeps.depexts --work=DIRECTORY [--only=REGEX]
        [--count=N] [--until=HH:MM] [--table=FILE] [--list]

Locks each with the base of 3rdparty/debian/trixie.lock, builds its layer twice, and asks dpkg and apt of an image with it:
`dpkg --audit`, `dpkg --verify`, `apt-get check`. What is found is kept in DIRECTORY, where a later run goes on; --table writes
all of it as Markdown. Needs root, mmdebstrap, a Debian mirror, and a snapshot of the repository (`tests.support.snapshot`).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import sys
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set

import tomli

from opam_oci.downloads.apt_sources import apt_mirrors
from opam_sandbox.building import debian_rootfs, opam_root
from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.layer import make
from opam_sandbox.layer.compress import Packing
from opam_sandbox.layer.description import Layer, read_layer
from opam_sandbox.locking.apt_lists import update
from opam_sandbox.opam import formulas, opamfile
from tests.support import snapshot
from tests.support.base_job import LARGER_LOCK
from tests.support.debian_layers import Workshop
from tests.sweeps.depext_closures import Closures
from tests.sweeps.depext_page import table

VARIABLES = {
    "os": "linux",
    "os-family": "debian",
    "os-distribution": "debian",
    "os-version": "13",
    "arch": "x86_64",
}
_CHECKS = (("dpkg", "--audit"), ("dpkg", "--verify"), ("apt-get", "check", "-qq"))
_RESULTS = "results.json"
_PLAIN = Packing("none", 0)


def depexts() -> Dict[str, int]:
    """Every depext of the snapshot for this Debian -> how many opam packages name it."""
    users: Dict[str, Set[str]] = {}
    for name, version, text in snapshot.opam_files(snapshot.find_snapshot()):
        if "depexts" not in text:
            continue
        try:
            items = opamfile.parse(text, f"{name}.{version}")
        except ToolError:
            continue
        for item in items:
            if item.name == "depexts" and item.value is not None:
                for depext in formulas.depexts(item.value, VARIABLES):
                    users.setdefault(depext, set()).add(name)
    return {depext: len(names) for depext, names in sorted(users.items())}


class Sweep:
    """`work`: a directory that is kept."""

    def __init__(self, work: Path) -> None:
        self._work = work
        work.mkdir(parents=True, exist_ok=True)
        lock = tomli.loads(LARGER_LOCK.read_text())
        self._suite, self._architecture = lock["metadata"]["suite"], lock["metadata"]["architecture"]
        self._lists = update(work / "apt", apt_mirrors(Path("/etc/apt")), [self._suite], self._architecture)
        self.workshop = Workshop(work, [])
        self.closures = Closures(work, self._lists, "")
        self.workshop.ground = self._ground(lock)
        self.closures = Closures(work, self._lists, self.workshop.see([], "cat", "/var/lib/dpkg/status")[1])
        self.results: Dict[str, Dict[str, Any]] = {}
        if (work / _RESULTS).exists():
            self.results = json.loads((work / _RESULTS).read_text())

    def _ground(self, lock: Dict[str, Any]) -> List[Layer]:
        """The base and opam's root, made once."""
        base, root = self._work / "base-0", self._work / "opam-root-0"
        store = os.fspath(self._work / "store")
        if not (base / "layer.json").exists():
            debs = [self.closures.given(deb) for deb in lock["deb"]]
            common = {"name": "trixie", "suite": self._suite, "architecture": self._architecture, "epoch": 1}
            request: Any = {**common, "store": store, "packages": lock["metadata"]["packages"], "debs": debs}
            shutil.rmtree(base, ignore_errors=True)
            self.workshop.make("base", lambda: debian_rootfs.run(request, 1))
        if not (root / "layer.json").exists():
            shutil.rmtree(root, ignore_errors=True)
            on_base: Any = {"store": store, "layers": [os.fspath(base)]}
            self.workshop.make("opam-root", lambda: opam_root.run(on_base, 1))
        return [read_layer(base), read_layer(root)]

    def try_one(self, depext: str) -> Dict[str, Any]:
        """What becomes of one depext: `debs` (how many), `seconds` of a build, and `problems`, none if all is well."""
        debs = [self.closures.given(deb) for deb in self.closures.debs(depext)]
        made: List[Layer] = []
        problems: List[str] = []
        start = time.monotonic()
        seconds = 0.0
        try:
            with packing(_PLAIN):
                made.append(self.workshop.build("p", debs))
                seconds = round(time.monotonic() - start, 1)
                made.append(self.workshop.build("p", debs))
                problems += different(made[0], made[1])
            # The store did not see this one made: it unpacks the blob, which is gzip as everybody's.
            made.append(self.workshop.state(made[:1]))
            problems += self.check([made[0], made[2]])
        except AssertionError as error:
            problems.append(short(str(error)))
        finally:
            self._forget(made)
        return {"debs": len(debs), "seconds": seconds, "locked": True, "problems": problems}

    def check(self, image: Sequence[Layer]) -> List[str]:
        """What dpkg and apt say against an image of these layers."""
        tests = [
            f'out=$({" ".join(command)} 2>&1) && [ -z "$out" ] || echo {place} $out'
            for place, command in enumerate(_CHECKS)
        ]
        status, text = self.workshop.see(image, "sh", "-c", "; ".join(tests))
        found = [f"the checks: exit status {status}: {short(text)}"] if status else []
        for line in [] if status else text.splitlines():
            place, _, said = line.partition(" ")
            found.append(f"`{' '.join(_CHECKS[int(place)])}`: {short(said)}" if place.isdigit() else short(line))
        return found

    def _forget(self, layers: Sequence[Layer]) -> None:
        for layer in layers:
            for kept in (self._work / "store").glob(f"v*/*/layers/{layer.diff_id.partition(':')[2]}"):
                shutil.rmtree(kept)
        for directory in self._work.glob("[ps]*-[0-9]*"):
            if directory.name.rpartition("-")[0] in ("p", "state", "see"):
                shutil.rmtree(directory)

    def run(self, everything: Sequence[str], names: Sequence[str], count: int, until: str) -> None:
        """See which of everything the release knows; then lock and build `names`, at most `count` of them (-1: all), and none
        after `until` (HH:MM, "" for never)."""
        known = self._known()
        for name in set(everything) - known:
            self.results[name] = {"locked": False, "problems": ["unknown"]}
        there = [name for name in names if name in known]
        end = next_time(until, time.time()) if until else None
        helper = self.closures.prepare(there)
        try:
            self.closures.wait(there, helper)
            refused = {name: self.closures.why_not(name) for name in there if self.closures.why_not(name)}
            for name, why in refused.items():
                self.results[name] = {"locked": False, "problems": [short(why)]}
            for name in self.closures.order(there):
                if name in self.results:
                    continue
                if count == 0 or (end is not None and time.time() >= end):
                    break
                count -= 1
                self.results[name] = self._covered(name) or self.try_one(name)
                print(time.strftime("%H:%M:%S"), name, self.results[name], flush=True)
                write_json(os.fspath(self._work / _RESULTS), self.results)
        finally:
            helper.kill()
            helper.wait()

    def _covered(self, depext: str) -> Optional[Dict[str, Any]]:
        """The result of a depext that another one shows to be right: one that was tried and needs all that this one needs, none
        of which has scripts or triggers. Such .debs are unpacked and nothing else, whatever is installed with them."""
        key = self.closures.key(depext)
        if not key:  # all of it is in the base
            return {"debs": 0, "locked": True, "problems": []}
        for other, found in sorted(self.results.items()):
            if found["locked"] and not found["problems"] and "seconds" in found and self.closures.has(other):
                if key <= self.closures.key(other) and self.closures.is_quiet(depext):
                    return {"debs": len(key), "covered": other, "locked": True, "problems": []}
        return None

    def _known(self) -> Set[str]:
        """The names of all packages of the release, virtual ones included."""
        found: Set[str] = set()
        for path in (self._lists.path / "lists").glob("*_Packages"):
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    if line.startswith(("Package: ", "Provides: ")):
                        found.update(part.split()[0] for part in line.partition(": ")[2].split(","))
        return found


def next_time(clock: str, now: float) -> float:
    """When clocks show HH:MM next, in seconds as `now`: tomorrow, perhaps. Raises ValueError where it is no time of day."""
    wanted, today = time.strptime(clock, "%H:%M"), time.localtime(now)
    day = (today.tm_year, today.tm_mon, today.tm_mday)
    times = (time.mktime((*day[:2], day[2] + more, wanted.tm_hour, wanted.tm_min, 0, 0, 0, -1)) for more in (0, 1))
    return next(one for one in times if one > now)


@contextmanager
def packing(how: Packing) -> Iterator[None]:
    """Within it, layers are written so. Their plain bytes are the same, and nobody reads these blobs but to name differences."""
    usual = make.write_blob
    make.write_blob = functools.partial(usual, packing=how)
    try:
        yield
    finally:
        make.write_blob = usual


def short(text: str) -> str:
    """The lines of a message that say what is wrong, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search("error|E: |problem|fail|annot|nable", line, re.I)] or lines
    return " / ".join(telling[:4])[:300].replace("|", "\\|")


def different(one: Layer, other: Layer) -> List[str]:
    """Which paths two builds of one layer made differently."""
    if one.diff_id == other.diff_id:
        same = (one.opam, one.dpkg) == (other.opam, other.dpkg)
        return [] if same else ["the descriptions of two builds differ"]
    first, second = (dict(entries(layer)) for layer in (one, other))
    paths = sorted(path for path in {*first, *second} if first.get(path) != second.get(path))
    return [f"two builds differ: {', '.join(paths[:4])}{' ...' if len(paths) > 4 else ''}"]


def entries(layer: Layer) -> "Iterator[tuple[str, Any]]":
    """The path of every entry of a layer, and what it is."""
    with tarfile.open(layer.blob) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            shown = content.read() if content else b""
            yield member.name, (member.type, member.mode, member.uid, member.gid, member.mtime, member.linkname, shown)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="", help="a regular expression: the depexts to try")
    parser.add_argument("--count", type=int, default=-1, help="how many that were not tried yet")
    parser.add_argument("--until", default="", help="HH:MM, after which nothing more is begun")
    parser.add_argument("--table", type=Path, help="the page to write")
    parser.add_argument("--list", action="store_true", help="print the depexts, and how many packages name each")
    options = parser.parse_args()
    users = depexts()
    if options.list:
        print("\n".join(f"{count}\t{name}" for name, count in users.items()))
        return 0
    sweep = Sweep(options.work.resolve())
    wanted = [name for name in users if re.fullmatch(options.only or ".*", name)]
    sweep.run(list(users), wanted, options.count, options.until)
    if options.table:
        options.table.write_text(table(sweep.results, users))
    return 1 if any(found["locked"] and found["problems"] for found in sweep.results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
