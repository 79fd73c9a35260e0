"""Releases of opam packages out of Debian's source pool, as a lockfile of this repository names them."""

from __future__ import annotations

import hashlib
import subprocess
import time
import urllib.request
from pathlib import Path

import tomli

from opam_oci.downloads.apt_sources import apt_mirrors
from tests.support.checkout import ROOT

_LOCK = ROOT / "3rdparty/opam/default.lock"
_POOL = "debian:"
_ATTEMPTS = 6


def unpack_release(name: str, target: Path) -> Path:
    """Unpack the archive of the package that //3rdparty/opam:default locks into `target`, which is made, without the archive's
    own top directory. Returns `target`. Raises OSError where this machine's mirror does not have it."""
    [package] = [package for package in tomli.loads(_LOCK.read_text())["package"] if package["name"] == name]
    [source] = package["source"]
    [path] = [url[len(_POOL) :] for url in source["urls"] if url.startswith(_POOL)][:1]
    return unpack_archive(path, source["sha256"], target)


def unpack_archive(path: str, sha256: str, target: Path) -> Path:
    """The same, of an archive by its path below a mirror's top and its sha256."""
    data = _fetch(path)
    found = hashlib.sha256(data).hexdigest()
    assert found == sha256, f"{path} has the sha256 {found}, and not {sha256}"
    target.mkdir(parents=True)
    command = ["tar", "--extract", "--strip-components=1", f"--directory={target}", f"--{_compression(path)}"]
    subprocess.run(command, input=data, check=True)
    return target


def _compression(path: str) -> str:
    return {"gz": "gzip", "bz2": "bzip2", "xz": "xz"}[path.rpartition(".")[2]]


def _fetch(path: str) -> bytes:
    [mirror, *_] = apt_mirrors(Path("/etc/apt"))
    for attempt in range(_ATTEMPTS):
        try:
            with urllib.request.urlopen(f"{mirror}/{path}", timeout=60) as answer:
                data: bytes = answer.read()
                return data
        except OSError:  # a mirror that is away for a moment is no fault of what is tested
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(2**attempt)
    raise AssertionError("no attempt")
