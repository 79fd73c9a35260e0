"""A Debian mirror's lists by apt, with directories of its own: downloaded once for all resolves of a run, and only what changed.

Uses the host's apt-get (package apt) and its keyring of Debian's archive keys; a mirror's index is only believed if it is
signed by one of them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Optional, Sequence, Tuple

from opam_sandbox import deb822
from opam_sandbox.errors import ToolError
from opam_sandbox.locking.secrets import Secrets
from opam_sandbox.sandbox import syscalls

_KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")

# What apt says before it explains anything, and of what it was told by this module.
NOISE = (
    "Reading ",
    "Building dependency tree",
    "Some packages could not be installed. This may mean",
    "requested an impossible situation",
    "distribution that some required packages",
    "or been moved out of Incoming",
    "The following information may help",
    "W: Unable to read /dev/null",
)


@dataclass(frozen=True)
class SourceFile:
    """One file of a Debian source package: `path` relative to the mirror, checksums by kind (md5, sha256; hex)."""

    path: str
    size: int
    checksums: Tuple[Tuple[str, str], ...]


def run(
    at: Path, arguments: Sequence[str], architecture: str, options: Dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a program of apt with directories below `at`, and nothing of the host's. options: further settings."""
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
        errors.append(f"{mirror}: {secrets.hide(complaint(done))}")
    raise ToolError(f"no mirror gives the index of {', '.join(suites)} ({architecture}):\n  " + "\n  ".join(errors))


def _download_lists(at: Path, sources_list: str, architecture: str) -> "subprocess.CompletedProcess[str]":
    # The cache of another architecture or another apt would be in the way, and is not needed for this.
    options = {"Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": ""}
    # In a file of its own, which does not stay: it may have passwords. apt names no list after them.
    with tempfile.NamedTemporaryFile("w", suffix=".list", encoding="utf-8") as file:
        file.write(sources_list)
        file.flush()
        options["Dir::Etc::sourcelist"] = file.name
        return run(at, ["apt-get", "update", "--error-on=any"], architecture, options)


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
        run(target, ["apt-cache", "gencaches"], architecture, cached(target))
    old = sorted(target.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT:]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return target


def cached(lists: Path) -> Dict[str, str]:
    """The settings that have apt read the lists of a snapshot."""
    return {
        "Dir::State::lists": f"{lists}/lists",
        "Dir::Cache::srcpkgcache": f"{lists}/srcpkgcache.bin",
        "Dir::Cache::pkgcache": "",
    }


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


def complaint(done: "subprocess.CompletedProcess[str]") -> str:
    """The last of what apt printed."""
    lines = [
        line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip() and not line.startswith(NOISE)
    ]
    return "\n    ".join(lines[-12:]) or f"exit status {done.returncode}"
