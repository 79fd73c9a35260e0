"""What one run of the benchmarks shares: its directory, the locked files, and one image built from nothing."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from bench.examples import Example
from opam_oci.downloads.apt_sources import apt_mirrors
from opam_oci.downloads.fetch import FetchRequest, candidates
from opam_oci.layers.requests import deb_requests, source_requests
from opam_sandbox.files import file_sha256
from tests.support.checkout import ROOT, CommandFailed, Pants, make_clone
from tests.support.layouts import Layout

GROUND = "bench/ground"


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def cores() -> int:
    return len(os.sched_getaffinity(0))


def timed(work: Callable[[], object]) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(samples: List[float]) -> float:
    return statistics.median(samples)


def disk_use(*directories: Path) -> int:
    """Allocated bytes of all files below, each counted once however many names it has."""
    seen: Dict[Tuple[int, int], int] = {}
    for directory in directories:
        for top, _, names in os.walk(directory):
            for name in names:
                try:
                    status = os.lstat(os.path.join(top, name))
                except FileNotFoundError:
                    continue
                seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def caches_of(pants: Pants) -> Tuple[Path, Path]:
    """Pants' store and named caches."""
    top = pants.caches or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pants"
    return top / "lmdb_store", top / "named_caches"


def unpacked_layers(pants: Pants) -> Path:
    """The store of unpacked layers, by the hex of their diff_id."""
    kind = "root" if os.geteuid() == 0 else "user"
    return caches_of(pants)[1] / "opam_oci_layers" / "v4" / kind / "layers"


def counters(stderr: str) -> Dict[str, int]:
    """Pants' own counts, as --stats-log prints them."""
    found = {}
    for line in stderr.splitlines():
        name, _, value = line.strip().partition(": ")
        if value.isdigit() and name.isidentifier():
            found[name] = int(value)
    return found


def wait_for_target(pants: Pants, address: str) -> None:
    """Until pantsd has seen the BUILD file that was just written: it learns of changes a moment later."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if address.removeprefix("//") in pants.run("list", address, check=False).stdout.split():
            return
        time.sleep(0.5)
    raise CommandFailed(f"Pants does not see {address} in {pants.root}")


@dataclass
class Built:
    """The example image, built by `pants`. seconds: what it took from nothing, None where it came from the user's caches.

    ground: the part of it that is the base, opam's root and Pants' start. rest: all packages, the state, the image."""

    pants: Pants
    layout: Layout
    ground_seconds: Optional[float] = None
    rest_seconds: Optional[float] = None

    @property
    def seconds(self) -> float:
        if self.ground_seconds is None or self.rest_seconds is None:
            raise CommandFailed("with --reuse nothing is built from nothing: this benchmark needs a run without it")
        return self.ground_seconds + self.rest_seconds

    def trees(self) -> List[Path]:
        """The unpacked layers, bottom first."""
        store = unpacked_layers(self.pants)
        return [store / diff_id.split(":")[1] / "root" for diff_id in self.layout.config["rootfs"]["diff_ids"]]


@dataclass
class Session:
    """work: a directory of this run alone. reuse: take the user's caches, where the image may be built already."""

    example: Example
    work: Path
    repeat: int = 5
    images: int = 100
    reuse: bool = False
    _built: Optional[Built] = None
    _mirror: Optional[Path] = None
    _checkouts: List[Pants] = field(default_factory=list)

    # -- directories and checkouts --------------------------------------------

    def directory(self, name: str) -> Path:
        """A new, empty directory."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def checkout(self, name: str, caches: Optional[Path] = None, options: Iterable[str] = ()) -> Pants:
        """Another clone of this repository with caches of its own, whose locked files lie on this machine."""
        top = self.directory(f"checkout-{name}")
        root = make_clone(top / "main")
        self.add_ground(root)
        pants = Pants(root, caches=caches or top / "caches", options=[*self.offline(), *options])
        self._checkouts.append(pants)
        return pants

    def add_ground(self, root: Path) -> None:
        """A target for the smallest image there is: what is below all packages, and one that installs nothing."""
        directory = root / "bench"
        directory.mkdir(exist_ok=True)
        package = f"3rdparty/opam:{self.example.resolve}#base-bigarray"
        (directory / "BUILD").write_text(f'oci_package_image(name="ground", packages=["{package}"])\n')

    def close(self) -> None:
        for pants in self._checkouts:
            pants.stop()

    # -- locked files ---------------------------------------------------------

    def requests(self) -> List[FetchRequest]:
        """Every file that the example's image is built from, and the .deb by which its base is changed."""
        lock = self.example.opam_lock(ROOT)
        found: List[FetchRequest] = list(deb_requests("base", self.example.debian_lock(ROOT).debs.values(), ""))
        found += deb_requests("base", [self.example.added_deb(ROOT)], "")
        for package in self.example.packages(ROOT):
            found += source_requests(package, "")
            found += deb_requests(package.full_name, [lock.debs[name] for name in package.debs], "")
        return found

    def mirror(self) -> Path:
        """A directory with all locked files: below `pool/` as Debian has them, below `sha256/` as opam's cache has them."""
        if self._mirror is None:
            self._mirror = self.work / "mirror"
            mirrors = apt_mirrors(Path("/etc/apt"))
            requests = self.requests()
            say(f"fetching {len(requests)} locked files ...")
            for request in requests:
                self._fetch(request, mirrors)
        return self._mirror

    def _fetch(self, request: FetchRequest, mirrors: Tuple[str, ...]) -> None:
        assert self._mirror is not None
        target = self._mirror / "sha256" / request.sha256[:2] / request.sha256
        names = [self._mirror / url[len("debian:") :] for url in request.urls if url.startswith("debian:")]
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            reasons = []
            for url in candidates(request.urls, sha256=request.sha256, archive_mirrors=(), debian_mirrors=mirrors):
                try:
                    with urllib.request.urlopen(url, timeout=60) as answer, open(partial, "wb") as out:
                        shutil.copyfileobj(answer, out)
                except (OSError, ValueError) as error:
                    reasons.append(f"{url}: {error}")
                    continue
                if file_sha256(partial)[0] == request.sha256:
                    partial.rename(target)
                    break
                reasons.append(f"{url}: other content")
            else:
                raise CommandFailed(f"no place gives {request.name}:\n" + "\n".join(reasons))
        for name in names:
            if not name.exists():
                name.parent.mkdir(parents=True, exist_ok=True)
                os.link(target, name)

    def offline(self) -> List[str]:
        """Options by which Pants takes every locked file from `mirror`."""
        mirror = self.mirror()
        return [f"--debian-mirrors=['file://{mirror}']", f"--opam-archive-mirrors=['file://{mirror}']"]

    # -- the image ------------------------------------------------------------

    def build(self, name: str, options: Iterable[str] = ()) -> Built:
        """Build the example from nothing in a checkout of its own: first what is below the packages, then the rest."""
        pants = self.checkout(name, options=options)
        say(f"building the base of {self.example.address} from nothing ...")
        ground = timed(lambda: pants.run("package", "//bench:ground"))
        say(f"building {self.example.address} on it ...")
        rest = timed(lambda: pants.run("package", self.example.address))
        return Built(pants, Layout(pants.root / "dist/images" / self.example.name), ground, rest)

    def built(self) -> Built:
        """The example's image, built once in this run; or out of the user's caches."""
        if self._built is None and self.reuse:
            top = self.directory("checkout-reuse")
            pants = Pants(make_clone(top / "main"))
            self.add_ground(pants.root)
            self._checkouts.append(pants)
            pants.run("package", self.example.address)
            self._built = Built(pants, Layout(pants.root / "dist/images" / self.example.name))
        elif self._built is None:
            state = self.work / f"built-{self.example.name}.json"
            if state.exists():  # of an earlier run with the same --work
                seconds = json.loads(state.read_text())
                top = self.work / "checkout-built"
                pants = Pants(top / "main", caches=top / "caches", options=self.offline())
                self._checkouts.append(pants)
                layout = Layout(pants.root / "dist/images" / self.example.name)
                self._built = Built(pants, layout, seconds["ground"], seconds["rest"])
            else:
                self._built = self.build("built")
                state.write_text(json.dumps({"ground": self._built.ground_seconds, "rest": self._built.rest_seconds}))
        return self._built
