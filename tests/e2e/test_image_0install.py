"""The main job: the real 0install, its compiler built from source, one layer per opam package, judged by other tools."""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Set

import pytest
import tomli

from tests.e2e.conftest import ROOT, Layout, Pants, Unpacked, tool

# Not packages of opam: the base, opam's own root, the state of the whole.
OTHER_LAYERS = 3

# Files that more than one layer of packages may write, and why. Nothing else may be in two layers.
SHARED_FILES: Dict[str, str] = {}


@pytest.fixture(scope="module")
def lock() -> Dict[str, Dict[str, object]]:
    data = tomli.loads((ROOT / "3rdparty/opam/default.lock").read_text())
    return {package["name"]: package for package in data["package"]}


def test_one_layer_per_package(zero_install: Layout, lock: Dict[str, Dict[str, object]]) -> None:
    titles = [layer.get("annotations", {}).get("org.opencontainers.image.title") for layer in zero_install.layers]
    assert sorted(filter(None, titles)) == sorted(f"{p['name']}.{p['version']}" for p in lock.values())
    assert len(titles) == len(lock) + OTHER_LAYERS
    position = {title.partition(".")[0]: number for number, title in enumerate(titles) if title}
    for name, package in lock.items():
        depends = package["depends"]
        assert isinstance(depends, list)
        assert all(position[dependency] < position[name] for dependency in depends), name


def test_skopeo_reads_and_copies_it(zero_install: Layout, tmp_path: Path) -> None:
    inspected = json.loads(tool("skopeo", "inspect", f"oci:{zero_install.path}:latest").stdout)
    assert inspected["Architecture"] == "amd64" and len(inspected["Layers"]) == len(zero_install.layers)
    # Copying reads every blob and compares its digest.
    tool("skopeo", "copy", "--quiet", f"oci:{zero_install.path}:latest", f"dir:{tmp_path}/copy")
    assert len(list((tmp_path / "copy").iterdir())) == len(zero_install.layers) + 3


def test_it_runs(zero_install_unpacked: Unpacked) -> None:
    run = zero_install_unpacked.run("opam", "exec", "--", "0install", "--version")
    assert run.stdout.startswith("0install (zero-install) 2.18\n")
    # Without opam exec too: the image's environment is the switch's.
    assert zero_install_unpacked.run("0install", "--version").stdout.startswith("0install (zero-install) 2.18\n")


def test_opam_knows_what_is_installed(zero_install_unpacked: Unpacked, lock: Dict[str, Dict[str, object]]) -> None:
    run = zero_install_unpacked.run("opam", "list", "--installed", "--short", "--columns=package")
    assert sorted(run.stdout.split()) == sorted(f"{p['name']}.{p['version']}" for p in lock.values())
    assert run.stderr.strip() == ""


def test_opam_installs_nothing_that_is_there(zero_install_unpacked: Unpacked) -> None:
    run = zero_install_unpacked.run("opam", "install", "--dry-run", "--yes", "dune")
    assert "already installed" in run.stdout + run.stderr
    check = zero_install_unpacked.run("opam", "switch", "show")
    assert check.stdout.strip() == "default"


def test_dpkg_finds_nothing_wrong(zero_install_unpacked: Unpacked) -> None:
    audit = zero_install_unpacked.run("dpkg", "--audit", user=0)
    assert audit.stdout == "" and audit.stderr == ""
    listed = zero_install_unpacked.run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", user=0).stdout
    states = dict(line.split(maxsplit=1) for line in listed.splitlines())
    assert states["libcurl4-gnutls-dev"].strip() == "ii" and states["gnupg"].strip() == "ii"
    locked = tomli.loads((ROOT / "3rdparty/debian/trixie.lock").read_text())["deb"]
    assert {deb["name"] for deb in locked} <= set(states)
    # Every file that dpkg lists is there, with the content it was packed with.
    verify = zero_install_unpacked.run("dpkg", "--verify", user=0)
    changed = [line for line in verify.stdout.splitlines() if " c " not in line]
    assert changed == []


def test_the_linker_finds_libraries(zero_install_unpacked: Unpacked) -> None:
    cached = zero_install_unpacked.run("/sbin/ldconfig", "-p").stdout
    assert "libcurl-gnutls.so.4" in cached and "libc.so.6" in cached


def layer_names(layout: Layout) -> Dict[str, List[str]]:
    """Layer title -> the names of everything in it that is no directory."""
    names: Dict[str, List[str]] = {}
    for number, layer in enumerate(layout.layers):
        title = layer.get("annotations", {}).get("org.opencontainers.image.title", f"layer {number}")
        with tarfile.open(layout.blob(layer["digest"])) as archive:
            names[title] = [member.name for member in archive if not member.isdir()]
    return names


def test_layers_are_disjoint(zero_install: Layout) -> None:
    names = layer_names(zero_install)
    packages = {title: set(found) for title, found in names.items() if not title.startswith("layer ")}
    owners: Dict[str, Set[str]] = defaultdict(set)
    for title, found in packages.items():
        for name in found:
            owners[name].add(title)
    assert {name: titles for name, titles in owners.items() if len(titles) > 1 and name not in SHARED_FILES} == {}
    # Nothing that a package brings is in the base or in opam's root either, and nothing is deleted.
    below = set(names["layer 0"]) | set(names["layer 1"])
    assert {name: titles for name, titles in owners.items() if name in below} == {}
    assert [name for name in owners if name.rpartition("/")[2].startswith(".wh.")] == []


def test_no_layer_holds_what_belongs_to_all(zero_install: Layout) -> None:
    shared = (
        "switch-state",
        "/.opam/log",
        "/.opam/repo/",
        "download-cache",
        "var/lib/dpkg/status",
        "ld.so.cache",
        "var/log/",
    )
    for title, names in layer_names(zero_install).items():
        if not title.startswith("layer "):
            assert [name for name in names if any(part in name for part in shared)] == [], title


def test_nothing_runs_when_nothing_changed(zero_install: Layout, pants: Pants) -> None:
    before = zero_install.manifest
    again = pants.run("package", "//images:0install", "--stats-log")
    assert zero_install.manifest == before
    counters = dict(
        line.strip().split(": ", 1) for line in again.stderr.splitlines() if line.startswith("  ") and ": " in line
    )
    assert int(counters["local_execution_requests"]) == 0, again.stderr
