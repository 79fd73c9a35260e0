"""A repository of those packages of the public one whose archives Debian's source pool has, and of those without an archive."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.support.checkout import ROOT
from tests.support.snapshot import unpack
from tests.sweeps.real_roots import NOT_SERVED

_OVERLAY = ROOT / "3rdparty/opam/overlay"
_HAS_ARCHIVE = re.compile(r'^\s*(url|extra-source\s+"[^"]*")\s*\{', re.MULTILINE)
# Newer ones than the overlay's come from an archive that the pool lists and does not serve.
_DUNE = ("dune", "dyn", "stdune", "ordering", "xdg", "fs-io", "top-closure", "ocamlc-loc", "chrome-trace")
_LAST_DUNE = (3, 17, 2)


def make_repository(snapshot: Path, matches: Path, target: Path) -> int:
    """Write the repository into `target`, which is made: of the archive `snapshot` the packages `name.version` that are keys of
    the JSON file `matches`, and those without an archive; over them the overlay of this checkout. Returns how many."""
    served = set(json.loads(matches.read_text())).difference(NOT_SERVED)
    whole = unpack(snapshot, target.with_name(f"{target.name}-whole"))
    for package in sorted((whole / "packages").glob("*/*")):
        name, title = package.parent.name, package.name
        text = (package / "opam").read_text(errors="surrogateescape")
        if (title in served or not _HAS_ARCHIVE.search(text)) and not _is_later_dune(name, title):
            shutil.copytree(package, target / "packages" / name / title)
    shutil.copy(_OVERLAY / "repo", target / "repo")
    for package in (_OVERLAY / "packages").glob("*/*"):
        own = target / "packages" / package.parent.name / package.name
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(package, own)
    shutil.rmtree(target.with_name(f"{target.name}-whole"))
    return sum(1 for _ in (target / "packages").glob("*/*"))


def _is_later_dune(name: str, title: str) -> bool:
    if name not in _DUNE and not name.startswith("dune-"):
        return False
    numbers = re.findall(r"\d+", title[len(name) :])
    return tuple(map(int, numbers)) > _LAST_DUNE
