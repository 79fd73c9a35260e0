"""apt with directories of its own: resolves package names to exact .debs, and lists the files of Debian's sources.

Uses the host's apt-get (package apt) and its keyring of Debian's archive keys; a mirror's index is only believed if it is
signed by one of them. Lists are downloaded once for all resolves of a run, and only what changed since the run before.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Type
from urllib.parse import unquote

from opam_sandbox import deb822
from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.locking.cache import Memo
from opam_sandbox.locking.requests import KeptDebs, KeptError
from opam_sandbox.locking.secrets import Secrets
from opam_sandbox.request import check
from opam_sandbox.sandbox import syscalls

_KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")


@dataclass(frozen=True)
class LockedDeb:
    """One .deb of a mirror: `path` is relative to the mirror (`pool/...`), `sha256` hex, `size` in bytes."""

    name: str
    version: str
    architecture: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class SourceFile:
    """One file of a Debian source package: `path` relative to the mirror, checksums by kind (md5, sha256; hex)."""

    path: str
    size: int
    checksums: Tuple[Tuple[str, str], ...]


def _run(
    at: Path, arguments: Sequence[str], architecture: str, options: Dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    settings = {
        "Dir::Etc": f"{at}/etc",
        "Dir::Etc::sourcelist": f"{at}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": f"{at}/state",
        "Dir::State::status": f"{at}/status",
        "Dir::Cache": f"{at}/cache",
        "Dir::Log": f"{at}/log",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::GzipIndexes": "false",
        "Debug::NoLocking": "true",
        **options,
    }
    command = [arguments[0]]
    for key, value in settings.items():
        command += ["-o", f"{key}={value}"]
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "APT_CONFIG": "/dev/null"}
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        if name in os.environ:
            env[name] = os.environ[name]
    return subprocess.run(
        [*command, *arguments[1:]],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


@dataclass(frozen=True)
class Lists:
    """A mirror's lists as they were at one time: `path/lists` and `path/sources.list`."""

    path: Path
    architecture: str


def update(
    cache: Path,
    mirrors: Sequence[str],
    suites: Sequence[str],
    architecture: str,
    secrets: Optional[Secrets] = None,
    *,
    sources: bool = False,
) -> Lists:
    """Bring the lists of the first mirror that has them up to date. They are never changed afterwards.

    `cache`: a directory that is kept. `secrets`: passwords of the mirrors. `sources`: lists of source packages instead of
    binary ones. Raises ToolError with apt's own words.
    """
    from filelock import FileLock

    if not mirrors:
        raise ToolError("no Debian mirror is known: set [debian].mirrors, or give this host an /etc/apt/sources.list")
    if shutil.which("apt-get") is None:
        raise ToolError("apt resolves Debian packages, and this machine lacks it (Debian package apt)")
    secrets = secrets or Secrets()
    errors = []
    for mirror in mirrors:
        lines = _sources_list(mirror.rstrip("/"), suites, architecture, sources)
        whole = _sources_list(secrets.url(mirror.rstrip("/")), suites, architecture, sources)
        at = cache / hashlib.sha256(lines.encode()).hexdigest()[:16]
        for name in ("etc", "state/lists/partial", "cache/archives/partial", "log"):
            (at / name).mkdir(parents=True, exist_ok=True)
        with FileLock(at / "lock"):
            (at / "status").write_text("")
            (at / "sources.list").write_text(lines)
            done = _download_lists(at, whole, architecture)
            if done.returncode == 0:
                return Lists(_snapshot(at, architecture, sources), architecture)
        errors.append(f"{mirror}: {secrets.hide(_complaint(done))}")
    raise ToolError(f"no mirror gives the index of {', '.join(suites)} ({architecture}):\n  " + "\n  ".join(errors))


def _download_lists(at: Path, sources_list: str, architecture: str) -> "subprocess.CompletedProcess[str]":
    # The cache of another architecture or another apt would be in the way, and is not needed for this.
    options = {"Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": ""}
    # In a file of its own, which does not stay: it may have passwords. apt names no list after them.
    with tempfile.NamedTemporaryFile("w", suffix=".list", encoding="utf-8") as file:
        file.write(sources_list)
        file.flush()
        options["Dir::Etc::sourcelist"] = file.name
        return _run(at, ["apt-get", "update", "--error-on=any"], architecture, options)


def _sources_list(mirror: str, suites: Sequence[str], architecture: str, sources: bool) -> str:
    keyring = next((path for path in _KEYRINGS if os.path.exists(path)), None)
    signed = f" signed-by={keyring}" if keyring else ""
    # What is taken from a source index is compared with opam's own checksums, so an old one does no harm.
    valid = " check-valid-until=no" if sources else ""
    kind = "deb-src" if sources else "deb"
    return "".join(f"{kind} [arch={architecture}{signed}{valid}] {mirror} {suite} main\n" for suite in suites)


# Kept of each mirror: the newest, and what processes that started before may still read.
_KEPT = 3


def _snapshot(at: Path, architecture: str, sources: bool) -> Path:
    """A copy of the lists that the next update leaves alone, made once per content."""
    lists = at / "state" / "lists"
    sha256 = hashlib.sha256()
    for path in sorted(lists.glob("*Release")):
        sha256.update(path.read_bytes())
    target = at / "snapshots" / sha256.hexdigest()
    if target.is_dir():
        os.utime(target)
        return target
    target.parent.mkdir(exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=at))
    shutil.copytree(lists, beside / "lists", ignore=shutil.ignore_patterns("partial", "lock", "auxfiles"))
    shutil.copy2(at / "sources.list", beside / "sources.list")
    for name in ("etc", "cache"):
        (beside / name).mkdir()
    (beside / "lists" / "partial").mkdir()
    (beside / "status").write_text("")
    # Whoever finds the name believes in the content, also after a power loss.
    syscalls.sync_file_system(beside)
    os.rename(beside, target)
    # Reading the lists takes apt a second or two. The result is used by all that resolve against them.
    if not sources:
        _run(target, ["apt-cache", "gencaches"], architecture, _cached(target))
    old = sorted(target.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT:]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return target


def _cached(lists: Path) -> Dict[str, str]:
    return {
        "Dir::State::lists": f"{lists}/lists",
        "Dir::Cache::srcpkgcache": f"{lists}/srcpkgcache.bin",
        "Dir::Cache::pkgcache": "",
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
        options = {**_cached(self._lists.path), "Acquire::ForceHash": "sha256"}
        done = _run(self._directory, [*_INSTALL, "--", *packages], self._lists.architecture, options)
        if done.returncode != 0:
            return {"error": f"apt cannot install {', '.join(packages)}: {_explanation(done)}"}
        mirror = (self._lists.path / "sources.list").read_text().split("] ")[1].split()[0]
        debs = {}
        for line in done.stdout.splitlines():
            deb = parse_uri_line(line, mirror)
            if deb:
                debs[deb.name] = asdict(deb)
        return {"debs": [debs[name] for name in sorted(debs)]}

    def among(self, debs: Sequence[LockedDeb]) -> "Among":
        """What installing packages needs of `debs` alone, for each of many questions. Raises ToolError."""
        shown = [f"{deb.name}={deb.version}" for deb in debs]
        listed = self._directory / "Packages"
        (self._directory / "none.list").write_text("")
        text = ""
        if shown:
            argv = ["apt-cache", "show", "--no-all-versions", *shown]
            done = _run(self._directory, argv, self._lists.architecture, _cached(self._lists.path))
            if done.returncode != 0:
                raise ToolError(f"apt does not show {', '.join(shown)}: {_complaint(done)}")
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
        done = _run(self.directory, argv, self.architecture, options)
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


def source_files(lists: Lists) -> Iterator[SourceFile]:
    """Every file of every source package in the lists, but for Debian's own descriptions of them."""
    for path in sorted((lists.path / "lists").glob("*_Sources")):
        for stanza in deb822.stanzas(path.read_text(encoding="utf-8", errors="surrogateescape")):
            try:
                yield from _source_files(stanza)
            except ValueError as error:
                raise ToolError(f"{path.name} cannot be read as a list of Debian's sources: {error!s:.200}") from None


def _source_files(stanza: str) -> Iterator[SourceFile]:
    """Raises ValueError."""
    fields = deb822.fields(stanza)
    found: Dict[str, Dict[str, str]] = {}
    sizes: Dict[str, int] = {}
    for field, kind in (("Files", "md5"), ("Checksums-Sha256", "sha256")):
        for line in fields.get(field, "").splitlines()[1:]:
            checksum, size, name = line.split()
            if not re.fullmatch("[0-9]{1,18}", size):
                raise ValueError(f"{size!r:.80} is no size of a file")
            if not name.endswith((".dsc", ".asc")):
                found.setdefault(name, {})[kind] = checksum
                sizes[name] = int(size)
    directory = fields.get("Directory", "")
    if any(not char.isprintable() for char in directory):  # it becomes a line of a table
        raise ValueError(f"{directory!r:.80} is no directory of an archive")
    for name, checksums in found.items():
        yield SourceFile(f"{directory}/{name}", sizes[name], tuple(sorted(checksums.items())))


# What apt says before it explains anything, and of what it was told by this module.
_NOISE = (
    "Reading ",
    "Building dependency tree",
    "Some packages could not be installed. This may mean",
    "requested an impossible situation",
    "distribution that some required packages",
    "or been moved out of Incoming",
    "The following information may help",
    "W: Unable to read /dev/null",
)
_LONGEST_EXPLANATION = 60


def _explanation(done: "subprocess.CompletedProcess[str]") -> str:
    """Why apt does not install something, with what it says of alternatives: its own words, but for what it always says."""
    printed, errors = (
        [line for line in text.splitlines() if line.strip() and not line.startswith(_NOISE)]
        for text in (done.stdout, done.stderr)
    )
    if len(printed) > _LONGEST_EXPLANATION:
        printed = [*printed[:_LONGEST_EXPLANATION], f"... and {len(printed) - _LONGEST_EXPLANATION} more lines"]
    return "\n    ".join([*printed, *errors[-12:]]) or f"exit status {done.returncode}"


def _complaint(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [
        line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip() and not line.startswith(_NOISE)
    ]
    return "\n    ".join(lines[-12:]) or f"exit status {done.returncode}"
