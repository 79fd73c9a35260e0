"""Lockfiles by the base's real opam and a real Debian mirror."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Dict, Iterator, Set
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from bench.scratch_project import ScratchProject
from opam_oci.downloads.apt_sources import apt_mirrors
from opam_oci.resolves.lockfile import OpamLock
from opam_oci.resolves.lockfile_reader import read_opam_lock
from tests.support.checkout import Pants
from tests.support.file_server import file_server
from tests.support.snapshot import location

ARCHIVE = b"an archive"
PACKAGES = {
    "app.2": 'depends: ["lib" {>= "1"} "check" {with-test} "post" {post} "dev" {dev}]\ndepopts: ["opt" "absent"]',
    "app.1": 'depends: ["lib"]',
    "lib.1": "",
    "lib.2": 'flags: avoid-version\nurl { src: "%s/lib.tgz" checksum: "md5=%s" }',
    "lib.1.9": 'depexts: [["libgmp-dev"] {os-family = "debian"} ["gmp"] {os-family = "arch"}]',
    "check.1": "",
    "post.1": 'depends: ["lib" {= "1.9"}]',
    "opt.1": "",
    "windows.1": 'available: os = "win32"',
    "both.1": 'depends: ["lib" {= "1"} "lib" {= "2"}]',
}
RESOLVES = {
    "default": ["app", "opt"],
    "tests": ["app"],
    "oldest": ["app"],
    "sourced": ["lib=2"],
    "windows": ["windows"],
    "both": ["both"],
    "mine": [],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchProject]:
    directory = tmp_path_factory.mktemp("locking") / "project"
    servers = ExitStack()
    options = 'resolves_with_test = ["tests"]\nresolves_prefer_oldest = ["oldest"]'
    project = ScratchProject(directory, list(RESOLVES), options)
    server = servers.enter_context(file_server())
    server.files = {"/lib.tgz": ARCHIVE}
    source = (server.url, hashlib.md5(ARCHIVE).hexdigest())
    files = {
        f"repository/packages/{title.partition('.')[0]}/{title}/opam": 'opam-version: "2.0"\n'
        + (text % source if "%s" in text else text)
        + "\n"
        for title, text in PACKAGES.items()
    }
    build = "".join(
        f'opam_requirement(name="{name}-roots", resolve="{name}", requirements={roots!r}'
        + (', source="mine.opam"' if name == "mine" else "")
        + ")\n"
        for name, roots in RESOLVES.items()
    )
    project.write(
        {**files, "BUILD": build, "mine.opam": 'opam-version: "2.0"\ndepends: ["lib" {< "2"} "check" {post}]\n'}
    )
    yield project
    project.stop_daemon()
    servers.close()


def text_of(project: ScratchProject, resolve: str) -> str:
    return (project.directory / f"3rdparty/opam/{resolve}.lock").read_text()


def versions(project: ScratchProject, resolve: str) -> Dict[str, str]:
    return dict(re.findall(r'(?m)^\[\[package\]\]\nname = "(.*)"\nversion = "(.*)"$', text_of(project, resolve)))


def test_solutions(project: ScratchProject) -> None:
    names = ("default", "tests", "oldest", "sourced", "mine")
    run = project.must("generate-lockfiles", *(f"--resolve={name}" for name in names))
    assert versions(project, "default") == {"app": "2", "lib": "1.9", "opt": "1", "post": "1"}
    assert versions(project, "tests") == {"app": "2", "lib": "1.9", "post": "1", "check": "1"}
    assert versions(project, "oldest") == {"app": "1", "lib": "1"}
    assert versions(project, "mine") == {"lib": "1.9", "check": "1"}

    default = text_of(project, "default")
    assert 'depends = [\n  "lib",\n  "opt",\n]\npost_depends = ["post"]' in default
    assert 'depexts = ["libgmp-dev"]' in default and '[[deb]]\nname = "libgmp-dev"' in default
    assert re.search(r'path = "pool/main/g/gmp/libgmp-dev_[^"]*"\nsha256 = "[0-9a-f]{64}"', default)
    assert 'test_depends = ["check"]' in text_of(project, "tests")
    sha256 = hashlib.sha256(ARCHIVE).hexdigest()
    assert f'sha256 = "{sha256}"\nsize = {len(ARCHIVE)}' in text_of(project, "sourced")
    assert "The resolve `sourced`: lib.2 is flagged avoid-version" in run.output
    assert "Lockfile diff: 3rdparty/opam/default.lock [default]" in run.output


@pytest.mark.parametrize(
    ("resolve", "reason"),
    [("windows", "windows: unmet availability conditions"), ("both", "No solution found")],
)
def test_opams_explanation(project: ScratchProject, resolve: str, reason: str) -> None:
    run = project.pants("generate-lockfiles", f"--resolve={resolve}")
    assert run.status == 1 and "Traceback" not in run.output
    assert f"opam finds no solution for {resolve} on os-distribution=debian" in run.output and reason in run.output
    assert not (project.directory / f"3rdparty/opam/{resolve}.lock").exists()


def in_the_pool(lock: OpamLock) -> Set[str]:
    return {url for p in lock.packages.values() for s in p.sources for url in s.urls if url.startswith("debian:")}


def without_the_pool(lock: OpamLock) -> Dict[str, object]:
    """What a lockfile says but for the paths in Debian's archive, which Debian may change."""
    return {
        "head": (lock.base, lock.requirements, lock.constraints, lock.options, lock.opam_files, lock.repositories),
        "debs": sorted(lock.debs),
        "packages": {
            name: replace(
                package,
                sources=tuple(
                    replace(source, urls=tuple(url for url in source.urls if not url.startswith("debian:")))
                    for source in package.sources
                ),
            )
            for name, package in lock.packages.items()
        },
    }


def on_a_mirror(url: str) -> bool:
    for mirror in apt_mirrors(Path("/etc/apt")):
        try:
            with urlopen(Request(f"{mirror}/{url[len('debian:') :]}", method="HEAD"), timeout=30):
                return True
        except HTTPError:
            continue
    return False


def test_a_clone_locks_what_is_committed(clone: Pants) -> None:
    """It has nothing beside it, and reaches a Debian mirror. The lockfile is the committed one, byte for byte.

    Where it is not, Debian's archive must have changed since: nothing but places in it differ, and those that the committed
    lockfile names and the new one does not are gone from the mirrors."""
    assert os.listdir(clone.root.parent) == [clone.root.name]
    path = clone.root / "3rdparty/opam/system.lock"
    committed = path.read_bytes()
    path.unlink()
    done = clone.run("generate-lockfiles", "--resolve=system", "--no-diff")
    assert "Wrote lockfile for the resolve `system`" in done.stderr
    made = path.read_bytes()
    if made == committed:
        return
    before, after = (read_opam_lock("system.lock", "system", content) for content in (committed, made))
    assert without_the_pool(after) == without_the_pool(before)
    assert in_the_pool(after) != in_the_pool(before), "the same, written in another way"
    assert [url for url in in_the_pool(before) - in_the_pool(after) if on_a_mirror(url)] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="opam by hand runs in an overlay that root mounts")
def test_the_same_as_opam_by_hand(tmp_path: Path, public_repository: Path) -> None:
    """On the public repository. bench/lock_roots.py does it for many roots."""
    from bench.lock_roots import by_hand

    repositories = {"public": location(public_repository)}
    project = ScratchProject(tmp_path / "project", ["react"], 'out_of_reach = "record"', repositories)
    project.write({"BUILD": 'opam_requirement(name="r", requirements=["react"])'})
    try:
        project.must("generate-lockfiles", "--resolve=react")
    finally:
        project.stop_daemon()
    by_opam = by_hand(tmp_path / "hand", public_repository, ["react"], 1)["answers"]["react"]
    assert "react" in by_opam and versions(project, "react") == by_opam
