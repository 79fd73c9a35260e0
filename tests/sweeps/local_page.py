"""The page about real projects that were built and tested as local ones."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Mapping

from tests.sweeps.local_releases import Release

_INTRODUCTION = """\
# Real projects as local ones

What `tests/sweeps/local_projects.py` found: releases of OCaml projects out of Debian's source pool, each unpacked into a
directory of one repository, with an `opam_project` beside it, on Debian 13's OCaml 5.3.0. Their files are untouched, but where an
asterisk stands: cppo's archive has no opam file, and 0install's asks for obus, so that those of this repository's overlay were
taken.

- *As released*: the same archive was built as a package of an opam repository, too, and both layers were compared. They may
  differ in opam's record of the package alone, and with an asterisk in what dune copies of the opam file.
- *Tests*: what `pants test` says, and what was looked for in the tests' own output. A dash: the opam file runs no tests, or
  they were not tried.

Libraries that only tests need, and ppxlib, are Debian's own, as depexts of packages that have nothing else.
"""


@dataclass
class Found:
    """What was found of a package. title: NAME.VERSION; entries: of its layer; differing: paths that the released package's layer
    has not, or not alike; tests: how they ended, "" if there are none; said: what they printed of what they should; missing:
    they printed none of that."""

    project: str
    title: str
    entries: int
    differing: List[str]
    tests: str = ""
    said: str = ""
    missing: bool = False

    @property
    def wrong(self) -> bool:
        return bool(self.differing) or self.missing or self.tests not in ("", "succeeded")


class Results:
    """What runs have found, kept in a file. packages: by name; broken: what was said when a test had been broken."""

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = json.loads(file.read_text()) if file.exists() else {"packages": {}, "broken": ""}
        self.packages = {name: Found(**values) for name, values in kept["packages"].items()}
        self.broken: str = kept["broken"]

    def add(self, found: Mapping[str, Found], broken: str) -> None:
        """What a run has found; it takes the place of what earlier ones have of the same packages."""
        self.packages.update(found)
        self.broken = broken or self.broken
        kept: Dict[str, object] = {"packages": {name: asdict(one) for name, one in self.packages.items()}}
        self._file.write_text(json.dumps({**kept, "broken": self.broken}, indent=1) + "\n")


def page(projects: Mapping[str, Release], found: Mapping[str, Found], broken: str) -> str:
    """The page about those that were tried. broken: what was said when a test had been broken."""
    rows: List[str] = []
    tried = {name: one for name, one in projects.items() if one.packages[0] in found}
    for release in tried.values():
        for package in release.packages:
            one = found[package]
            system = release.system if package == release.packages[0] else ""
            mark = "\\*" if release.opam and package == release.packages[0] else ""
            layer = f"the same, {one.entries} entries" if not one.differing else f"{len(one.differing)} files differ"
            rows.append(f"| {one.title}{mark} | {system} | {release.has} | {layer} | {_tests(one, release)} |")
    tested = [one for one in found.values() if one.tests]
    wrong = [name for name, one in found.items() if one.wrong]
    counts = f"{len(tried)} projects with {len(found)} packages; {len(tested)} packages have tests that ran. " + (
        "All are right." if not wrong else f"Not right: {', '.join(wrong)}."
    )
    table = ["| package | build system | has | as released | tests |", "|---|---|---|---|---|", *rows]
    return "\n".join([_INTRODUCTION, counts, "", *table, "", broken, ""])


def _tests(one: Found, release: Release) -> str:
    if not one.tests:
        return "-"
    words = [one.tests, f"`{one.said}`" if one.said else "", f"they use {release.touches}" if release.touches else ""]
    return "; ".join(word for word in words if word)
