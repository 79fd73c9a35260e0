"""apt resolves package names to exact .debs, against a mirror's lists and what is installed already."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Type
from urllib.parse import unquote

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.locking.apt_lists import NOISE, Lists, cached, complaint, run
from opam_sandbox.locking.cache import Memo
from opam_sandbox.locking.requests import KeptDeb, KeptDebs, KeptError
from opam_sandbox.request import check


@dataclass(frozen=True)
class LockedDeb:
    """One .deb of a mirror: `path` is relative to the mirror (`pool/...`), `sha256` hex, `size` in bytes."""

    name: str
    version: str
    architecture: str
    path: str
    sha256: str
    size: int


def kept(deb: LockedDeb) -> KeptDeb:
    """A .deb as JSON and lockfiles have it, its fields in this order."""
    return {
        "name": deb.name,
        "version": deb.version,
        "architecture": deb.architecture,
        "path": deb.path,
        "sha256": deb.sha256,
        "size": deb.size,
    }


# Without --no-remove apt would take packages of the base away for others, and --print-uris does not say so. With one -q it
# explains itself; with two it does not.
_INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", "--no-remove", "--print-uris", "-q=1")
# Names the way that apt is asked: what is kept of its answers is to another question if this changes.
_QUESTION = "2"


class Apt:
    """A context manager. `status`: the text of a dpkg status file, the packages that are there already."""

    def __init__(self, lists: Lists, status: str = "") -> None:
        self._lists = lists
        self._status = status
        self._directory = Path()

    def __enter__(self) -> "Apt":
        self._directory = Path(tempfile.mkdtemp(prefix="apt-"))
        for name in ("etc", "state", "cache/archives/partial", "log"):
            (self._directory / name).mkdir(parents=True)
        shutil.copy2(self._lists.path / "sources.list", self._directory / "sources.list")
        (self._directory / "status").write_text(self._status, encoding="utf-8", errors="surrogateescape")
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def resolve(self, packages: Sequence[str]) -> List[LockedDeb]:
        """The .debs that installing `packages` needs beyond `status`, sorted by name. Nothing of `status` is removed.

        Raises ToolError with apt's explanation.
        """
        asked = "\0".join([_QUESTION, self._status, *packages])
        key = hashlib.sha256(asked.encode("utf-8", "surrogateescape")).hexdigest()
        memo = Memo(self._lists.path / "answers")
        answer = memo.get(key)
        if answer is None or not _is_answer(answer):
            answer = self._ask(packages)
            memo.put(key, answer)
        if "error" in answer:
            raise ToolError(answer["error"])
        return [LockedDeb(**deb) for deb in answer["debs"]]

    def _ask(self, packages: Sequence[str]) -> Dict[str, Any]:
        options = {**cached(self._lists.path), "Acquire::ForceHash": "sha256"}
        done = run(self._directory, [*_INSTALL, "--", *packages], self._lists.architecture, options)
        if done.returncode != 0:
            return {"error": f"apt cannot install {', '.join(packages)}: {_explanation(done)}"}
        mirror = (self._lists.path / "sources.list").read_text().split("] ")[1].split()[0]
        debs = {}
        for line in done.stdout.splitlines():
            deb = parse_uri_line(line, mirror)
            if deb:
                debs[deb.name] = kept(deb)
        return {"debs": [debs[name] for name in sorted(debs)]}

    def among(self, debs: Sequence[LockedDeb]) -> "Among":
        """What installing packages needs of `debs` alone, for each of many questions. Raises ToolError."""
        shown = [f"{deb.name}={deb.version}" for deb in debs]
        listed = self._directory / "Packages"
        (self._directory / "none.list").write_text("")
        text = ""
        if shown:
            argv = ["apt-cache", "show", "--no-all-versions", *shown]
            done = run(self._directory, argv, self._lists.architecture, cached(self._lists.path))
            if done.returncode != 0:
                raise ToolError(f"apt does not show {', '.join(shown)}: {complaint(done)}")
            text = done.stdout
        listed.write_text(text, encoding="utf-8", errors="replace")
        return Among(self._directory, listed, self._lists.architecture, frozenset(deb.name for deb in debs))


@dataclass(frozen=True)
class Among:
    """apt with a list of a few packages, and what is there already: it answers at once. See `Apt.among`."""

    directory: Path
    listed: Path
    architecture: str
    known: "frozenset[str]"

    def resolve(self, packages: Sequence[str]) -> List[str]:
        """The names of those that installing `packages` needs. Raises ToolError with apt's explanation."""
        options = {
            "Dir::State::lists": f"{self.directory}/state/lists",
            "Dir::Etc::sourcelist": f"{self.directory}/none.list",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Acquire::ForceHash": "sha256",
        }
        argv = [*_INSTALL, "--allow-unauthenticated", "--with-source", os.fspath(self.listed), "--", *packages]
        done = run(self.directory, argv, self.architecture, options)
        if done.returncode != 0:
            raise ToolError(f"apt cannot install {', '.join(packages)}: {_explanation(done)}")
        found = [_URI_LINE.match(line) for line in done.stdout.splitlines()]
        return sorted(match["name"] for match in found if match and match["name"] in self.known)


def _is_answer(value: Dict[str, Any]) -> bool:
    """Whether what was kept is an answer: a file may be damaged."""
    try:
        check(value, KeptError if "error" in value else KeptDebs, "it")
    except RequestError:
        return False
    return True


_URI_LINE = re.compile(
    r"'(?P<uri>[^']*)' (?P<name>[^_ ]+)_(?P<version>[^_ ]+)_(?P<arch>\S+)\.deb (?P<size>[0-9]{1,18}) (?P<hash>\S+)"
)


def parse_uri_line(line: str, mirror: str) -> Optional[LockedDeb]:
    """A line of `apt-get --print-uris`; None for other lines. Raises ToolError for a file without sha256."""
    match = _URI_LINE.match(line)
    if not match:
        return None
    kind, _, sha256 = match["hash"].partition(":")
    path = unquote(match["uri"])
    if path.startswith(mirror):
        path = path[len(mirror) :].lstrip("/")
    elif "/pool/" in path:
        path = path[path.index("/pool/") + 1 :]
    else:
        raise ToolError(f"{path} is of no mirror's pool, so that a lockfile cannot name it")
    if kind != "SHA256":
        raise ToolError(f"the mirror's index has no sha256 of {path}")
    version = unquote(match["version"])
    return LockedDeb(match["name"], version, match["arch"], path, sha256, int(match["size"]))


_LONGEST_EXPLANATION = 60


def _explanation(done: "subprocess.CompletedProcess[str]") -> str:
    """Why apt does not install something, with what it says of alternatives: its own words, but for what it always says."""
    printed, errors = (
        [line for line in text.splitlines() if line.strip() and not line.startswith(NOISE)]
        for text in (done.stdout, done.stderr)
    )
    if len(printed) > _LONGEST_EXPLANATION:
        printed = [*printed[:_LONGEST_EXPLANATION], f"... and {len(printed) - _LONGEST_EXPLANATION} more lines"]
    return "\n    ".join([*printed, *errors[-12:]]) or f"exit status {done.returncode}"
