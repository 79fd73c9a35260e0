"""A repository of those packages of the public one whose archives Debian's source pool has, and of those without an archive."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Set

from tests.support.checkout import ROOT
from tests.support.snapshot import find_snapshot, opam_files, unpack
from tests.sweeps.pool import Pool

_OVERLAY = ROOT / "3rdparty/opam/overlay"
_HAS_ARCHIVE = re.compile(r'^\s*(url|extra-source\s+"[^"]*")\s*\{', re.MULTILINE)


def make_repository(work: Path) -> Pool:
    """Make the directory `work`/repository, if it is not there: the packages of the snapshot whose archives the pool serves, and
    those without an archive; over them the overlay of this checkout. Returns what the pool has."""
    snapshot = find_snapshot()
    pool = Pool.ask(work, opam_files(snapshot))
    if not (work / "repository").exists():
        shutil.rmtree(work / "repository-0", ignore_errors=True)
        print(f"{_write(snapshot, set(pool.served), work / 'repository-0')} packages in the repository", flush=True)
        (work / "repository-0").rename(work / "repository")
    return pool


def _write(snapshot: Path, served: Set[str], target: Path) -> int:
    whole = unpack(snapshot, target.with_name(f"{target.name}-whole"))
    for package in sorted((whole / "packages").glob("*/*")):
        name, title = package.parent.name, package.name
        text = (package / "opam").read_text(errors="surrogateescape")
        if title in served or not _HAS_ARCHIVE.search(text):
            shutil.copytree(package, target / "packages" / name / title)
    shutil.copy(_OVERLAY / "repo", target / "repo")
    for package in (_OVERLAY / "packages").glob("*/*"):
        own = target / "packages" / package.parent.name / package.name
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(package, own)
    shutil.rmtree(target.with_name(f"{target.name}-whole"))
    return sum(1 for _ in (target / "packages").glob("*/*"))
