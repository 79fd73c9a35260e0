"""A directory as the process that makes a base finds it: the request and the .debs of trixie-slim."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from pathlib import Path
from typing import Any, Dict, List

import tomli

from opam_oci.downloads.apt_sources import apt_mirrors
from tests.support.checkout import ROOT, tool

LOCK = ROOT / "3rdparty/debian/trixie-slim.lock"


def download(top: Path) -> None:
    """Fill `top`. Raises OSError where this machine's mirror does not have the .debs."""
    lock = tomli.loads(LOCK.read_text())
    [mirror, *_] = apt_mirrors(Path("/etc/apt"))
    (top / "debs").mkdir()
    (top / "store").mkdir()
    debs: List[Dict[str, Any]] = []
    for deb in lock["deb"]:
        file = f"debs/{deb['path'].rpartition('/')[2]}"
        urllib.request.urlretrieve(f"{mirror.rstrip('/')}/{deb['path']}", top / file)
        debs.append({key: deb[key] for key in ("name", "version", "architecture", "sha256", "size")} | {"file": file})
    metadata = lock["metadata"]
    request = {
        "store": "store",
        "packages": [],
        "debs": debs,
        "epoch": 1_700_000_000,
        "name": "slim",
        "suite": metadata["suite"],
        "architecture": metadata["architecture"],
    }
    (top / "request.json").write_text(json.dumps(request))


def add_package(top: Path, name: str, postinst: str, files: Dict[str, str]) -> None:
    """Make a .deb with a maintainer script, and lock it with the others. files: paths below the root -> texts."""
    tree = top / "tree"
    for path, text in {"DEBIAN/postinst": postinst, **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / "DEBIAN/postinst").chmod(0o755)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a test's\n"
    )
    file = f"debs/{name}_1_all.deb"
    tool("dpkg-deb", "--root-owner-group", "--build", str(tree), str(top / file))
    data = (top / file).read_bytes()
    request = json.loads((top / "request.json").read_text())
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "file": file}
    request["debs"].append({"name": name, "version": "1", "architecture": "all", **entry})
    (top / "request.json").write_text(json.dumps(request))
