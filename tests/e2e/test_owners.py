"""Owners, modes, accounts and secrets of real Debian packages in an image, beside dpkg's own install in the same base."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import tomli

from opam_oci.layers.opam_text import texts_seen_by_builds
from opam_sandbox.beside import machine_files
from tests.e2e.conftest import as_user, tool
from tests.support.base_job import fetch
from tests.support.checkout import Pants, make_clone
from tests.support.layouts import Layout, write_layer_directory
from tests.support.sandbox_tool import copy_tool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="compares owners: needs root")

# Setgid and set-uid programs of system groups, statoverrides, file capabilities, a key, a machine's name.
DEPEXTS = {
    "conf-ssh": ["openssh-client"],
    "conf-bus": ["dbus"],
    "conf-cert": ["ssl-cert"],
    "conf-ping": ["iputils-ping", "libcap2-bin"],
}
OPAM = """opam-version: "2.0"
maintainer: "nobody"
authors: "nobody"
license: "ISC"
homepage: "https://example.org"
bug-reports: "https://example.org"
synopsis: "depexts"
flags: conf
depexts: [[%s] {os-family = "debian"}]
"""
BUILD = """opam_packages(name="r", resolve="owners")
opam_requirement(name="q", resolve="owners", requirements=[%s])
oci_package_image(name="img", packages=[%s])
"""
# mode, user, group
Owned = Tuple[int, str, str]
ENV = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
}
# Of each machine, or of dpkg's and ldconfig's own records.
NOT_COMPARED = re.compile(
    r"(dev|proc|sys|run|tmp|home|debs|var/(tmp|log|cache|backups|lib/(dpkg|apt|systemd/deb-systemd\S*)))(/.*)?"
)


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="owners-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def image(top: Path) -> Layout:
    """An image of all these, whose depexts were also installed twice and compared."""
    root = make_clone(top / "main")
    for name, debs in DEPEXTS.items():
        directory = root / f"owners/repo/packages/{name}/{name}.1"
        directory.mkdir(parents=True)
        (directory / "opam").write_text(OPAM % " ".join(f'"{deb}"' for deb in debs))
    (root / "owners/repo/repo").write_text('opam-version: "2.0"\n')
    names = [f'"{name}"' for name in DEPEXTS]
    (root / "owners/BUILD").write_text(BUILD % (", ".join(names), ", ".join(f'":r#{name}"' for name in DEPEXTS)))
    options = [
        "--no-pantsd",
        "--opam-resolves=+{'owners': 'owners/owners.lock'}",
        "--opam-resolves-to-base=+{'owners': '//3rdparty/debian:trixie'}",
        "--opam-repositories={'own': 'owners/repo'}",
        "--opam-check-depexts",
    ]
    pants = Pants(root, options=options)
    pants.run("generate-lockfiles", "--resolve=owners")
    pants.run("package", "owners:img")
    return Layout(root / "dist/owners/img")


@pytest.fixture(scope="module")
def unpacked(top: Path, image: Layout) -> Path:
    tool("umoci", "unpack", "--image", f"{image.path}:latest", str(top / "bundle"))
    return top / "bundle/rootfs"


@pytest.fixture(scope="module")
def locked(top: Path, image: Layout) -> Dict[str, List[Dict[str, Any]]]:
    """The .debs of each package, fetched, as requests have them."""
    lock = tomli.loads((top / "main/owners/owners.lock").read_text())
    (top / "debs").mkdir()
    found = {deb["name"]: {**fetch(top, deb)} for deb in lock["deb"]}
    for deb in found.values():
        deb["file"] = str(top / deb["file"])
    return {package["name"]: [found[name] for name in package["debs"]] for package in lock["package"]}


def owned(root: Path) -> Dict[str, Owned]:
    """All paths of a root, with the names of their owners there."""
    names: List[Dict[int, str]] = []
    for file in ("passwd", "group"):
        lines = [line.split(":") for line in (root / "etc" / file).read_text().splitlines()]
        names.append({int(fields[2]): fields[0] for fields in reversed(lines)})
    found: Dict[str, Owned] = {}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            full = os.path.join(directory, name)
            path = os.path.relpath(full, root)
            if NOT_COMPARED.fullmatch(path):
                continue
            status = os.lstat(full)
            mode = stat.S_IFMT(status.st_mode) if stat.S_ISLNK(status.st_mode) else status.st_mode
            found[path] = (mode, names[0].get(status.st_uid, "?"), names[1].get(status.st_gid, "?"))
    return found


def capabilities(root: Path) -> Dict[str, bytes]:
    return {
        os.path.relpath(path, root): os.getxattr(path, "security.capability", follow_symlinks=False)
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and "security.capability" in os.listxattr(path)
    }


def test_it_is_what_dpkg_makes(
    top: Path, image: Layout, unpacked: Path, locked: Dict[str, List[Dict[str, Any]]]
) -> None:
    """By names, for every path; but for what a rule leaves out."""
    real = top / "real"
    real.mkdir()
    tool("tar", "-xzf", str(image.blob(image.layers[0]["digest"])), "--xattrs", "--xattrs-include=*", "-C", str(real))
    (real / "debs").mkdir()
    debs = sorted({deb["file"] for debs in locked.values() for deb in debs})
    for deb in debs:
        shutil.copy(deb, real / "debs")
    script = (
        f"mount -t proc proc {real}/proc && mount --rbind /dev {real}/dev && hostname localhost && exec chroot {real} sh -c "
        "'dpkg --force-unsafe-io --unpack /debs/*.deb; dpkg --force-unsafe-io --configure --pending'"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--uts", "--pid", "--fork", "sh", "-c", script],
        env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    expected, found = owned(real), owned(unpacked)
    assert expected["usr/bin/ssh-agent"][1:] == ("root", "_ssh")
    by_rule = {path for path in expected if machine_files.action(os.fsencode(path))}
    assert {"var/lib/dbus/machine-id", "etc/ssl/private/ssl-cert-snakeoil.key"} < by_rule
    gone = {path for path in by_rule if path not in found}
    wrong = {
        path: (expected.get(path), found.get(path))
        for path in {*expected, *found} - gone
        if expected.get(path) != found.get(path) and "/ssl/certs/" not in path and not path.endswith(".pyc")
    }
    assert wrong == {}
    assert capabilities(unpacked) == capabilities(real)
    keys = [
        path for path in (unpacked / "etc").rglob("*") if path.is_file() and b"PRIVATE KEY-----" in path.read_bytes()
    ]
    assert keys == []


def entries(blob: Path) -> Dict[str, Tuple[object, ...]]:
    """What a layer's archive says of each path."""
    with tarfile.open(blob) as archive:
        found: Dict[str, Tuple[object, ...]] = {}
        for entry in archive:
            file = archive.extractfile(entry) if entry.isreg() else None
            content = hashlib.sha256(file.read()).hexdigest() if file else entry.linkname
            found[entry.name] = (entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, content, entry.pax_headers)
    return found


def test_a_user_makes_the_same_layers(
    top: Path, image: Layout, locked: Dict[str, List[Dict[str, Any]]], tmp_path: Path
) -> None:
    """With subordinate ids, as distributions set users up."""
    home = top / "home"
    home.mkdir()
    program = copy_tool(top / "tool")
    layers = [
        write_layer_directory(image, number, top / f"layers/{number}", kind, name)
        for number, (kind, name) in enumerate((("base", "base"), ("opam-root", "default")))
    ]
    for path in (home, top / "layers", top / "debs", program):
        tool("chmod", "-R", "a+rX", str(path))
    titles = [layer.get("annotations", {}).get("org.opencontainers.image.title", "") for layer in image.layers]
    lock = tomli.loads((top / "main/owners/owners.lock").read_text())
    texts = texts_seen_by_builds((package["name"], package["opam"]) for package in lock["package"])
    for name in DEPEXTS:
        work = home / name
        (work / "store").mkdir(parents=True)
        package = {"name": name, "version": "1", "opam": texts[name], "files": [], "sources": [], "debs": locked[name]}
        request = {"store": str(home / "store"), "layers": [str(layer) for layer in layers], "package": package}
        (work / "request.json").write_text(json.dumps(request))
    (home / "store").mkdir()
    tool("chown", "-R", "47010:47010", str(home))
    prefix = as_user(home, "true")
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(program)}
    for name in DEPEXTS:
        argv = [*prefix, "python3", "-sB", "-m", "opam_sandbox.building", "build", "request.json"]
        done = subprocess.run(argv, cwd=home / name, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr + (home / name / "build.log").read_text()[-3000:]
        found = json.loads((home / name / "layer.json").read_text())
        expected = image.layers[titles.index(f"{name}.1")]["digest"]
        assert entries(home / name / "blobs/sha256" / found["digest"][7:]) == entries(image.blob(expected))
        assert found["digest"] == expected
    # All that is left is the user's own.
    assert {path.lstat().st_uid for path in home.rglob("*")} == {47010}
