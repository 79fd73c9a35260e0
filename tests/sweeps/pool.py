"""Which packages of the public repository can be built from Debian's source pool: those all of whose archives are in it.

The tool's own `SourceFinder` says so, and asks mirrors only. An archive that the pool's index lists may be on none of them.
"""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterable, Iterator, List, Sequence, Tuple

from opam_oci.downloads.apt_sources import apt_mirrors
from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from opam_sandbox.locking.apt_lists import update
from opam_sandbox.locking.cache import Memo, directory
from opam_sandbox.locking.indexes import read_source_index, source_index
from opam_sandbox.locking.sources import OutOfReach, SourceFinder
from opam_sandbox.locking.wanted_sources import Wanted, wanted_sources
from opam_sandbox.opam import opamfile

SUITES = ("trixie", "sid", "bookworm")  # as [debian].source_suites has them
_NOT_SERVED = "in the index, but on no mirror"  # as SourceFinder says it
_NO_ANSWER = "did not say"  # the same
_SECTION = re.compile(r"^\s*(url|extra-source)\b", re.MULTILINE)
_AT_ONCE = 8
_KEPT = "pool.json"

# (package, version, text of the opam file)
OpamFile = Tuple[str, str, str]


@dataclass(frozen=True)
class Pool:
    """Titles `name.version`. `served`: all of their sources can be had; `listed`: the index has one that no mirror has;
    `partly`: a source is there, and another one, such as a patch, is not in the pool."""

    served: Tuple[str, ...]
    listed: Tuple[str, ...]
    partly: Tuple[str, ...]

    @staticmethod
    def ask(work: Path, opam_files: Iterable[OpamFile]) -> "Pool":
        """Look for all these in the pool, by the mirrors of this machine. What is found is kept in `work`."""
        kept = work / _KEPT
        if not kept.exists():
            mirrors = apt_mirrors(Path("/etc/apt"))
            index = source_index(update(work / "apt", mirrors, list(SUITES), "amd64", sources=True))
            found = look(opam_files, index, mirrors, Memo(directory(os.fspath(work), "archives")))
            write_json(os.fspath(kept), vars(found))
        return Pool.read(work)

    @staticmethod
    def read(work: Path) -> "Pool":
        """What was found before. Raises OSError if nothing was."""
        return Pool(**{key: tuple(titles) for key, titles in json.loads((work / _KEPT).read_text()).items()})


def look(opam_files: Iterable[OpamFile], index: Path, mirrors: Sequence[str], known: Memo) -> Pool:
    """`index`: the pool's files, as the tool writes them; `known`: what is known of archives. Raises ConnectionError where a
    mirror does not say whether it has a file."""
    wanted = dict(_wanted(opam_files))
    every = [source for sources in wanted.values() for source in sources]
    checksums = {value for source in every for _, value in source.checksums}
    versions = {title.partition(".")[2] for title in wanted}
    finder = SourceFinder(read_source_index(index, checksums, set(), versions), mirrors, [], known)

    def place(title: str) -> str:
        """The name of the field of `Pool` that the package is in; "" if none of its sources is in the pool."""
        why = [_why_not(finder, title, source) for source in wanted[title]]
        if not any(why):
            return "served"
        if any(_NOT_SERVED in text for text in why):
            return "listed"
        return "" if all(why) else "partly"

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        places = dict(zip(wanted, threads.map(place, wanted)))
        # An archive that the index does not state by this checksum may have been found for another package meanwhile.
        again = [title for title, where in places.items() if where in ("", "partly")]
        places.update(zip(again, threads.map(place, again)))
    titles = {key: sorted(title for title in places if places[title] == key) for key in ("served", "listed", "partly")}
    return Pool(**{key: tuple(found) for key, found in titles.items()})


def _why_not(finder: SourceFinder, title: str, source: Wanted) -> str:
    """Why a source cannot be had from the pool; "" if it can. Upstream's own places are not asked. Raises ConnectionError."""
    try:
        finder.lock(title, replace(source, urls=()))
    except OutOfReach as error:
        if _NO_ANSWER in str(error):
            raise ConnectionError(f"whether the pool has it is not known, try again: {error}") from None
        return str(error)
    return ""


def _wanted(opam_files: Iterable[OpamFile]) -> Iterator[Tuple[str, List[Wanted]]]:
    """Title and sources of each package that has sources, all of them with checksums."""
    for name, version, text in opam_files:
        title = f"{name}.{version}"
        try:
            sources = wanted_sources(opamfile.parse(text, title), title) if _SECTION.search(text) else []
        except ToolError:
            continue
        if sources and all(source.checksums for source in sources):
            yield title, sources
