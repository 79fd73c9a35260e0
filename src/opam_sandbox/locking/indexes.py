"""What all resolves of a run ask Debian's archive for: the lists of its packages, and the files of its sources.

Writes indexes.json, and sources.txt with a line per file: path, size, md5 and sha256, with tabs between them.
"""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path
from typing import Iterator, Set

from opam_sandbox.files import write_json
from opam_sandbox.locking import cache, secrets
from opam_sandbox.locking.apt_lists import Lists, SourceFile, source_files, update
from opam_sandbox.locking.requests import Indexes, IndexesRequest

INDEXES = "indexes.json"
SOURCES = "sources.txt"
_SESSION_SECONDS = 24 * 60 * 60


def make_indexes(request: IndexesRequest) -> int:
    """The step `indexes`. Raises ToolError where no mirror gives the lists."""
    store, mirrors, architecture = request["store"], request["mirrors"], request["architecture"]
    apt = cache.directory(store, "apt")
    known = secrets.take(request.get("secrets", ""))
    binary = update(apt, mirrors, [request["suite"]], architecture, known)
    suites = request["source_suites"]
    if suites:
        text = source_index(update(apt, mirrors, suites, architecture, known, sources=True))
        shutil.copyfile(text, SOURCES)
    else:
        Path(SOURCES).write_text("")
    # What runs before this one noted has no use for anybody any more.
    for path in cache.directory(store, "sessions").iterdir():
        if path.stat().st_mtime < time.time() - _SESSION_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
    # The session's name keeps apart what was out of reach in this run, and may be there in the next one.
    indexes: Indexes = {"lists": str(binary.path.relative_to(apt)), "session": uuid.uuid4().hex}
    write_json(INDEXES, indexes)
    return 0


def source_index(lists: Lists) -> Path:
    """The files of all source packages as text; made once for the same lists."""
    path = lists.path / SOURCES
    if not path.exists():
        lines = sorted({source_line(file) for file in source_files(lists)})
        cache.write_whole(path, "".join(lines), synced=True)
        for big in (lists.path / "lists").glob("*_Sources"):
            big.unlink()
    return path


def source_line(file: SourceFile) -> str:
    """A file as a line of the index, with its newline."""
    checksums = dict(file.checksums)
    return f"{file.path}\t{file.size}\t{checksums.get('md5', '')}\t{checksums.get('sha256', '')}\n"


def read_source_index(path: Path, checksums: Set[str], paths: Set[str], versions: Set[str]) -> Iterator[SourceFile]:
    """Those files of the index that have one of the checksums (hex) or paths, or are an upstream archive of a version.

    Of some hundred thousand files only a few are asked for: the others cost no more than a look.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            name, size, md5, sha256 = line.rstrip("\n").split("\t")
            version = name.rpartition("_")[2].partition(".orig.tar")[0]
            if md5 in checksums or sha256 in checksums or name in paths or version in versions:
                known = tuple((kind, value) for kind, value in (("md5", md5), ("sha256", sha256)) if value)
                yield SourceFile(name, int(size), known)
