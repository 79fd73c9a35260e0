"""apt with directories of its own: resolves package names to exact .debs, and finds source archives by checksum.

Uses the host's apt-get (package apt) and its keyring of Debian's archive keys; a mirror's index is only believed if it is
signed by one of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Type
from urllib.parse import unquote

from opam_sandbox.errors import ToolError

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


class Apt:
    """A context manager: `mirrors` in order of preference, the `suites` to read. Raises ToolError with apt's own words.

    `status`: the text of a dpkg status file, the packages that are there already.
    """

    def __init__(
        self, mirrors: Sequence[str], suites: Sequence[str], architecture: str, status: str = "", sources: bool = False
    ) -> None:
        if not mirrors:
            raise ToolError(
                "no Debian mirror is known: set [debian].mirrors, or give this host an /etc/apt/sources.list"
            )
        if shutil.which("apt-get") is None:
            raise ToolError("apt resolves Debian packages and is not on this machine (Debian package apt)")
        self._mirrors = [mirror.rstrip("/") for mirror in mirrors]
        self._suites = suites
        self._architecture = architecture
        self._status = status
        self._kind = "deb-src" if sources else "deb"
        self._directory = ""

    def __enter__(self) -> "Apt":
        self._directory = tempfile.mkdtemp(prefix="apt-")
        for name in ("etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial", "log"):
            os.makedirs(f"{self._directory}/{name}")
        Path(self._directory, "status").write_text(self._status, encoding="utf-8", errors="surrogateescape")
        errors = []
        for mirror in self._mirrors:
            error = self._update(mirror)
            if not error:
                return self
            errors.append(f"{mirror}: {error}")
        self.__exit__(None, None, None)
        raise ToolError(
            f"no mirror gives the index of {', '.join(self._suites)} ({self._architecture}):\n  " + "\n  ".join(errors)
        )

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _update(self, mirror: str) -> str:
        keyring = next((path for path in _KEYRINGS if os.path.exists(path)), None)
        signed = f" signed-by={keyring}" if keyring else ""
        # What is taken from a source index is compared with opam's own checksums, so an old one does no harm.
        valid = " check-valid-until=no" if self._kind == "deb-src" else ""
        options = f"[arch={self._architecture}{signed}{valid}]"
        lines = [f"{self._kind} {options} {mirror} {suite} main\n" for suite in self._suites]
        Path(self._directory, "etc/sources.list").write_text("".join(lines))
        done = self._apt("apt-get", ["update", "--error-on=any"])
        return "" if done.returncode == 0 else _complaint(done)

    def _apt(self, program: str, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        at = self._directory
        options = {
            "Dir::Etc": f"{at}/etc",
            "Dir::Etc::sourcelist": f"{at}/etc/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::parts": f"{at}/etc/apt.conf.d",
            "Dir::Etc::preferencesparts": f"{at}/etc/preferences.d",
            "Dir::State": f"{at}/state",
            "Dir::State::status": f"{at}/status",
            "Dir::Cache": f"{at}/cache",
            "Dir::Log": f"{at}/log",
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Sandbox::User": "",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "false",
            "Debug::NoLocking": "true",
        }
        command = [program]
        for key, value in options.items():
            command += ["-o", f"{key}={value}"]
        env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "APT_CONFIG": "/dev/null"}
        for name in ("http_proxy", "https_proxy", "no_proxy"):
            if name in os.environ:
                env[name] = os.environ[name]
        return subprocess.run(
            [*command, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False
        )

    def resolve(self, packages: Sequence[str]) -> List[LockedDeb]:
        """The .debs that installing `packages` needs beyond `status`, sorted by name."""
        done = self._apt("apt-get", ["install", "--yes", "--no-install-recommends", "--print-uris", "-qq", *packages])
        if done.returncode != 0:
            raise ToolError(f"apt cannot install {', '.join(packages)}: {_complaint(done)}")
        wanted: Dict[Tuple[str, str], None] = {}
        for line in done.stdout.splitlines():
            match = re.match(r"'[^']*' (\S+)_(\S+)_(\S+)\.deb \d+", line)
            if match:
                wanted[(match.group(1), unquote(match.group(2)))] = None
        index = {(deb.name, deb.version): deb for deb in self._packages()}
        missing = [f"{name}={version}" for name, version in wanted if (name, version) not in index]
        if missing:
            raise ToolError(f"the mirror's index lacks {', '.join(missing)}")
        return sorted((index[key] for key in wanted), key=lambda deb: deb.name)

    def has(self, package: str) -> bool:
        """Whether the index knows a package of this name, or one that provides it."""
        done = self._apt("apt-cache", ["showpkg", package])
        return done.returncode == 0 and "Package:" in done.stdout

    def _packages(self) -> Iterator[LockedDeb]:
        for fields in self._stanzas("_Packages"):
            yield LockedDeb(
                fields["Package"],
                fields["Version"],
                fields["Architecture"],
                fields["Filename"],
                fields["SHA256"],
                int(fields["Size"]),
            )

    def source_files(self) -> Iterator[SourceFile]:
        """Every file of every source package in the index."""
        for fields in self._stanzas("_Sources"):
            directory = fields["Directory"]
            found: Dict[str, Dict[str, str]] = {}
            sizes: Dict[str, int] = {}
            for key, kind in (("Files", "md5"), ("Checksums-Sha256", "sha256")):
                for line in fields.get(key, "").split("\n"):
                    parts = line.split()
                    if len(parts) == 3:
                        found.setdefault(parts[2], {})[kind] = parts[0]
                        sizes[parts[2]] = int(parts[1])
            for name, checksums in found.items():
                yield SourceFile(f"{directory}/{name}", sizes[name], tuple(sorted(checksums.items())))

    def _stanzas(self, suffix: str) -> Iterator[Dict[str, str]]:
        for path in sorted(Path(self._directory, "state/lists").glob(f"*{suffix}")):
            fields: Dict[str, str] = {}
            key = ""
            with open(path, encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines:
                    line = line.rstrip("\n")
                    if not line:
                        if fields:
                            yield fields
                        fields, key = {}, ""
                    elif line[0] in " \t":
                        fields[key] += "\n" + line[1:]
                    else:
                        key, _, value = line.partition(":")
                        fields[key] = value.strip()
            if fields:
                yield fields


def _complaint(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    return "\n    ".join(lines[-12:]) or f"exit status {done.returncode}"
