"""Every Debian package that the public opam repository's packages name as a depext, installed in a layer of its own.

    PYTHONPATH=.:src:pants-plugins $(build-support/test-python) -m tests.sweeps.depexts --work=DIRECTORY [--only=REGEX]
        [--count=N] [--table=FILE] [--list]

Locks each with the base of 3rdparty/debian/trixie.lock, builds its layer twice, and asks dpkg and apt of an image with it:
`dpkg --audit`, `dpkg --verify`, `apt-get check`. What is found is kept in DIRECTORY, where a later run goes on; --table writes
all of it as Markdown. Needs root, mmdebstrap, a Debian mirror, and a snapshot of the repository (`tests.support.snapshot`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Set

import tomli

from opam_oci.downloads.apt_sources import apt_mirrors
from opam_sandbox.building import debian_rootfs, opam_root
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import Layer, read_layer
from opam_sandbox.locking.apt import Apt, LockedDeb
from opam_sandbox.locking.apt_lists import update
from opam_sandbox.locking.lock_debs import resolve
from opam_sandbox.opam import formulas, opamfile
from tests.support import snapshot
from tests.support.base_job import LARGER_LOCK, fetch
from tests.support.debian_layers import Workshop

VARIABLES = {
    "os": "linux",
    "os-family": "debian",
    "os-distribution": "debian",
    "os-version": "13",
    "arch": "x86_64",
}
_CHECKS = (("dpkg", "--audit"), ("dpkg", "--verify"), ("apt-get", "check", "-qq"))
_RESULTS = "results.json"
_REASON = (
    "Where two builds differ, maintainer scripts write what is random or the time: dbus makes a machine-id, and Java's keystore "
    "of certificates has the time in it."
)


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
        (work / "debs").mkdir(parents=True, exist_ok=True)
        lock = tomli.loads(LARGER_LOCK.read_text())
        self._suite, self._architecture = lock["metadata"]["suite"], lock["metadata"]["architecture"]
        self._lists = update(work / "apt", apt_mirrors(Path("/etc/apt")), [self._suite], self._architecture)
        self.workshop = Workshop(work, [])
        self.workshop.ground = self._ground(lock)
        self._status = self.workshop.see([], "cat", "/var/lib/dpkg/status")[1]
        self.results: Dict[str, Dict[str, Any]] = {}
        if (work / _RESULTS).exists():
            self.results = json.loads((work / _RESULTS).read_text())

    def _ground(self, lock: Dict[str, Any]) -> List[Layer]:
        """The base and opam's root, made once."""
        base, root = self._work / "base-0", self._work / "opam-root-0"
        store = os.fspath(self._work / "store")
        if not (base / "layer.json").exists():
            debs = [self._deb(deb) for deb in lock["deb"]]
            common = {"name": "trixie", "suite": self._suite, "architecture": self._architecture, "epoch": 1}
            request: Any = {**common, "store": store, "packages": lock["metadata"]["packages"], "debs": debs}
            shutil.rmtree(base, ignore_errors=True)
            self.workshop.make("base", lambda: debian_rootfs.run(request, 1))
        if not (root / "layer.json").exists():
            shutil.rmtree(root, ignore_errors=True)
            on_base: Any = {"store": store, "layers": [os.fspath(base)]}
            self.workshop.make("opam-root", lambda: opam_root.run(on_base, 1))
        return [read_layer(base), read_layer(root)]

    def _deb(self, deb: Dict[str, Any]) -> Dict[str, Any]:
        """A .deb, downloaded if it was not yet; as requests have it."""
        file = self._work / "debs" / deb["path"].rpartition("/")[2]
        if not file.exists():
            fetch(self._work, deb)
        return {key: deb[key] for key in ("name", "version", "architecture", "sha256", "size")} | {
            "file": os.fspath(file)
        }

    def lock(self, depext: str) -> List[LockedDeb]:
        """The .debs of an opam package with this depext. Raises ToolError with apt's reason."""
        with Apt(self._lists, self._status) as apt:
            return resolve(apt, {"p.1": [depext]}, False).debs

    def try_one(self, depext: str) -> Dict[str, Any]:
        """What becomes of one depext: `debs` (how many), `seconds` of a build, and `problems`, none if all is well."""
        try:
            debs = [self._deb(vars(deb)) for deb in self.lock(depext)]
        except ToolError as error:
            return {"locked": False, "problems": [short(str(error).rpartition("\nTo write")[0])]}
        made: List[Layer] = []
        problems: List[str] = []
        try:
            start = time.monotonic()
            made.append(self.workshop.build("p", debs))
            seconds = round(time.monotonic() - start, 1)
            made.append(self.workshop.build("p", debs))
            problems += different(made[0], made[1])
            made.append(self.workshop.state(made[:1]))
            problems += self.check([made[0], made[2]])
        except AssertionError as error:
            seconds = round(time.monotonic() - start, 1)
            problems.append(short(str(error)))
        finally:
            self._forget(made)
        return {"debs": len(debs), "seconds": seconds, "locked": True, "problems": problems}

    def check(self, image: Sequence[Layer]) -> List[str]:
        """What dpkg and apt say against an image of these layers."""
        found = []
        for command in _CHECKS:
            status, text = self.workshop.see(image, *command)
            if (status, text.strip()) != (0, ""):
                found.append(f"`{' '.join(command)}`: {short(text)}")
        return found

    def _forget(self, layers: Sequence[Layer]) -> None:
        for layer in layers:
            for kept in (self._work / "store").glob(f"v*/*/layers/{layer.diff_id.partition(':')[2]}"):
                shutil.rmtree(kept)
        for directory in self._work.glob("[ps]*-[0-9]*"):
            if directory.name.rpartition("-")[0] in ("p", "state", "see"):
                shutil.rmtree(directory)

    def run(self, everything: Sequence[str], names: Sequence[str], count: int) -> None:
        """See which of everything the release knows; then lock and build `names`, at most `count` of them (-1: all)."""
        known = self._known()
        for name in set(everything) - known:
            self.results[name] = {"locked": False, "problems": ["unknown"]}
        self._keep()
        for name in names:
            if name in self.results:
                continue
            if count == 0:
                break
            count -= 1
            self.results[name] = self.try_one(name)
            print(name, self.results[name], flush=True)
            self._keep()

    def _known(self) -> Set[str]:
        """The names of all packages of the release, virtual ones included."""
        found: Set[str] = set()
        for path in (self._lists.path / "lists").glob("*_Packages"):
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    if line.startswith(("Package: ", "Provides: ")):
                        found.update(part.split()[0] for part in line.partition(": ")[2].split(","))
        return found

    def _keep(self) -> None:
        (self._work / _RESULTS).write_text(json.dumps(self.results, indent=1, sort_keys=True))


def short(text: str) -> str:
    """The lines of a message that say what is wrong, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search("error|E: |problem|fail|annot|nable", line, re.I)] or lines
    return " / ".join(telling[:4])[:300].replace("|", "\\|")


def different(one: Layer, other: Layer) -> List[str]:
    """Which paths two builds of one layer made differently."""
    if one.diff_id == other.diff_id:
        return []
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


def table(results: Dict[str, Dict[str, Any]], users: Dict[str, int]) -> str:
    """All results as a page."""
    good = sorted(name for name, found in results.items() if not found["problems"])
    absent = {name: found for name, found in sorted(results.items()) if not found["locked"]}
    bad = {name: found for name, found in sorted(results.items()) if found["locked"] and found["problems"]}
    unknown = [name for name, found in absent.items() if found["problems"] == ["unknown"]]
    counts = (
        f"{len(unknown)} of them are unknown to this release, and {len(absent) - len(unknown)} cannot be installed for other "
        f"reasons. Of the other {len(users) - len(absent)}, {len(good) + len(bad)} were tried until now: {len(good)} install, "
        f"with the same bytes twice and nothing to complain of; {len(bad)} have a problem."
    )
    lines = [
        "# Debian packages as depexts",
        "",
        "What `tests/sweeps/depexts.py` found: each Debian package below was locked as the depext of an opam package on the base",
        "`3rdparty/debian:trixie`, its layer was built twice, and the image was asked by `dpkg --audit`, `dpkg --verify` and",
        "`apt-get check`.",
        "",
        f"The public opam repository's packages name {len(users)} Debian packages. {counts}",
        "",
        "## Install and are the same twice",
        "",
        ", ".join(f"{name} ({results[name]['debs']})" for name in good) + ".",
        "",
        "In brackets: how many .debs beyond the base.",
        "",
    ]
    other = {name: found for name, found in absent.items() if name not in unknown}
    for title, part in (("Have a problem", bad), ("Are known and cannot be installed", other)):
        lines += [f"## {title}", "", "| Debian package | named by | why |", "|---|---|---|"]
        lines += [f"| {name} | {users.get(name, 0)} | {'; '.join(found['problems'])} |" for name, found in part.items()]
        lines += [] if part else ["| none | | |"]
        lines.append("")
        if part is bad and part:
            lines += [_REASON, ""]
    lines += [
        "## Are unknown to this release",
        "",
        "Their opam packages name them for other releases or distributions. `generate-lockfiles` says so.",
        "",
        ", ".join(unknown) + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="", help="a regular expression: the depexts to try")
    parser.add_argument("--count", type=int, default=-1, help="how many that were not tried yet")
    parser.add_argument("--table", type=Path, help="the page to write")
    parser.add_argument("--list", action="store_true", help="print the depexts, and how many packages name each")
    options = parser.parse_args()
    users = depexts()
    if options.list:
        print("\n".join(f"{count}\t{name}" for name, count in users.items()))
        return 0
    sweep = Sweep(options.work.resolve())
    # What many packages name comes first.
    wanted = sorted(
        (name for name in users if re.fullmatch(options.only or ".*", name)), key=lambda name: (-users[name], name)
    )
    sweep.run(list(users), wanted, options.count)
    if options.table:
        options.table.write_text(table(sweep.results, users))
    return 1 if any(found["locked"] and found["problems"] for found in sweep.results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
