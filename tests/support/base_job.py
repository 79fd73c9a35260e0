"""A directory as the process that makes a base finds it: the request and the .debs of trixie-slim."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import tomli

from opam_oci.downloads.apt_sources import apt_mirrors
from tests.support.checkout import ROOT, tool

LOCK = ROOT / "3rdparty/debian/trixie-slim.lock"
LARGER_LOCK = ROOT / "3rdparty/debian/trixie.lock"
_ATTEMPTS = 6


def download(top: Path, more: Sequence[str] = ()) -> None:
    """Fill `top`. `more`: packages of the larger base that come with it. Raises OSError where this machine's mirror does not
    have the .debs."""
    lock = tomli.loads(LOCK.read_text())
    wanted = lock["deb"] + [deb for deb in tomli.loads(LARGER_LOCK.read_text())["deb"] if deb["name"] in more]
    (top / "debs").mkdir()
    (top / "store").mkdir()
    with ThreadPoolExecutor(8) as pool:
        debs = list(pool.map(lambda deb: fetch(top, deb), wanted))
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


def fetch(top: Path, deb: Dict[str, Any]) -> Dict[str, Any]:
    """Download a lockfile's .deb into `top`/debs; returns it as requests have it."""
    [mirror, *_] = apt_mirrors(Path("/etc/apt"))
    file = f"debs/{deb['path'].rpartition('/')[2]}"
    for attempt in range(_ATTEMPTS):
        try:
            urllib.request.urlretrieve(f"{mirror.rstrip('/')}/{deb['path']}", top / file)
            break
        except OSError:  # a name server or a mirror that is away for a moment is no fault of what is tested
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(2**attempt)
    return {key: deb[key] for key in ("name", "version", "architecture", "sha256", "size")} | {"file": file}


def add_package(top: Path, name: str, postinst: str, files: Dict[str, str]) -> None:
    """Make a .deb with a maintainer script, and lock it with the others. files: paths below the root -> texts."""
    entry = make_package(top, name, postinst, files)
    request = json.loads((top / "request.json").read_text())
    request["debs"].append(entry)
    (top / "request.json").write_text(json.dumps(request))


def make_package(
    top: Path,
    name: str,
    postinst: str,
    files: Dict[str, str],
    programs: Sequence[str] = (),
    tree: Optional[Path] = None,
) -> Dict[str, Any]:
    """Make a .deb in `top`/debs; returns it as requests have it. programs: which files are executable. tree: a directory that
    has more of its files."""
    tree = tree or top / f"tree-{name}"
    for path, text in {"DEBIAN/postinst": postinst, **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o755 if path in ("DEBIAN/postinst", *programs) else 0o644)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a test's\n"
    )
    file = f"debs/{name}_1_all.deb"
    tool("dpkg-deb", "--root-owner-group", "--build", str(tree), str(top / file))
    data = (top / file).read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "file": file}
    return {"name": name, "version": "1", "architecture": "all", **entry}
