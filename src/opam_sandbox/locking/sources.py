"""Finds, for every source of a package, its sha256 and size, and all the places that it can be had from.

opam files may know an archive by md5 or sha512 alone; the lock knows every byte by sha256. What Debian's source pool
holds with the same checksum is entered by its pool path; anything else is downloaded once, verified and hashed.
"""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.apt import SourceFile
from opam_sandbox.locking.formulas import strings
from opam_sandbox.opamfile import Item

DEBIAN = "debian:"
_TIMEOUT = 60
_ORIGINAL = re.compile(r"/([^/_]+)_([^/_]+)\.orig\.tar\.[a-z0-9]+$")


@dataclass(frozen=True)
class Wanted:
    """A source as an opam file states it: `name` is "" for the archive; checksums as (kind, hex)."""

    name: str
    urls: Tuple[str, ...]
    checksums: Tuple[Tuple[str, str], ...]


@dataclass(frozen=True)
class Locked:
    """A source as the lock states it: `urls` in the order upstream's own, then Debian's pool; size in bytes."""

    name: str
    urls: Tuple[str, ...]
    sha256: str
    size: int


def wanted_sources(items: Iterable[Item], package: str) -> List[Wanted]:
    """The url and extra-source sections of an opam file. Raises ToolError for a source without a checksum."""
    result = []
    for item in items:
        if item.name not in ("url", "extra-source"):
            continue
        fields = {field.name: field.value for field in item.items}
        urls = [
            *strings(fields.get("src") or fields.get("archive") or fields.get("http")),
            *strings(fields.get("mirrors")),
        ]
        checksums = []
        for text in strings(fields.get("checksum")):
            kind, _, value = text.rpartition("=")
            checksums.append((kind or "md5", value.lower()))
        if not urls:
            raise ToolError(f"{package}: its opam file has a {item.name} section without src")
        if not checksums:
            raise ToolError(
                f"{package}: its source {urls[0]} has no checksum, so it cannot be locked: "
                "put the package with an archive and its sha256 into an overlay repository"
            )
        result.append(Wanted(item.label if item.name == "extra-source" else "", tuple(urls), tuple(checksums)))
    return result


class SourceFinder:
    """`pool`: the files of Debian's source packages; `mirrors`: Debian mirrors; `archive_mirrors`: opam caches."""

    def __init__(self, pool: Iterable[SourceFile], mirrors: Sequence[str], archive_mirrors: Sequence[str]) -> None:
        self._by_checksum: Dict[Tuple[str, str], List[SourceFile]] = {}
        self._by_path: Dict[str, SourceFile] = {}
        self._by_version: Dict[str, List[SourceFile]] = {}
        for file in pool:
            self._by_path.setdefault(file.path, file)
            original = _ORIGINAL.search(file.path)
            if original:
                self._by_version.setdefault(original.group(2), []).append(file)
            for checksum in file.checksums:
                self._by_checksum.setdefault(checksum, []).append(file)
        self._mirrors = [mirror.rstrip("/") for mirror in mirrors]
        self._archive_mirrors = [mirror.rstrip("/") for mirror in archive_mirrors]

    def lock(self, package: str, wanted: Wanted) -> Locked:
        """Raises ToolError, naming every place asked, where nothing with the right checksums can be had."""
        tried: List[str] = []
        file = self._in_pool(wanted, tried)
        if file is not None:
            checksums = dict(file.checksums)
            upstream = [url for url in wanted.urls if not url.startswith(DEBIAN)]
            return Locked(wanted.name, (*upstream, DEBIAN + file.path), checksums["sha256"], file.size)
        for url in self._candidates(wanted):
            content = self._download(url, tried)
            if content is not None and self._fits(url, content, wanted, tried):
                return Locked(wanted.name, wanted.urls, hashlib.sha256(content).hexdigest(), len(content))
        for file in self._namesakes(package):
            for mirror in self._mirrors:
                content = self._download(f"{mirror}/{file.path}", tried)
                if content is not None:
                    if self._fits(DEBIAN + file.path, content, wanted, tried):
                        urls = (*wanted.urls, DEBIAN + file.path)
                        return Locked(wanted.name, urls, hashlib.sha256(content).hexdigest(), len(content))
                    break
        what = f"its source {wanted.name}" if wanted.name else "its archive"
        places = "\n  ".join(tried)
        raise ToolError(f"{package}: {what} cannot be had, so it cannot be locked:\n  {places}")

    @staticmethod
    def _fits(url: str, content: bytes, wanted: Wanted, tried: List[str]) -> bool:
        for kind, value in wanted.checksums:
            found = _digest(kind, content)
            if found != value:
                tried.append(f"{url}: its {kind} is {found}, not {value}")
                return False
        return True

    def _namesakes(self, package: str) -> Iterator[SourceFile]:
        """Upstream archives of the same version in Debian source packages of about the same name.

        Debian's index knows md5 and sha256 only: an archive that opam knows by its sha512 has to be looked at.
        """
        name, _, version = package.partition(".")
        bare = _bare(name)
        for file in self._by_version.get(version, ()):
            match = _ORIGINAL.search(file.path)
            if match and _bare(match.group(1)) == bare:
                yield file

    def _in_pool(self, wanted: Wanted, tried: List[str]) -> Optional[SourceFile]:
        found: Dict[str, SourceFile] = {}
        for url in wanted.urls:
            if url.startswith(DEBIAN) and url[len(DEBIAN) :] in self._by_path:
                file = self._by_path[url[len(DEBIAN) :]]
                found.setdefault(file.path, file)
        for checksum in wanted.checksums:
            for file in self._by_checksum.get(checksum, ()):
                found.setdefault(file.path, file)
        for file in found.values():
            known = dict(file.checksums)
            wrong = [kind for kind, value in wanted.checksums if known.get(kind, value) != value]
            if wrong or "sha256" not in known:
                tried.append(f"{DEBIAN}{file.path}: its {', '.join(wrong) or 'sha256'} does not fit")
            elif self._is_there(file):
                return file
            else:
                tried.append(f"{DEBIAN}{file.path}: in the index, but on no mirror")
        return None

    def _is_there(self, file: SourceFile) -> bool:
        # Mirrors list source files in their index that they do not have.
        for mirror in self._mirrors:
            request = urllib.request.Request(f"{mirror}/{file.path}", method="HEAD")
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT):
                    return True
            except OSError:
                continue
        return False

    def _candidates(self, wanted: Wanted) -> Iterator[str]:
        for mirror in self._archive_mirrors:
            for kind, value in wanted.checksums:
                yield f"{mirror}/{kind}/{value[:2]}/{value}"
        for url in wanted.urls:
            if url.startswith(DEBIAN):
                for mirror in self._mirrors:
                    yield f"{mirror}/{url[len(DEBIAN) :]}"
            else:
                yield url

    @staticmethod
    def _download(url: str, tried: List[str]) -> Optional[bytes]:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                content: bytes = answer.read()
                return content
        except (OSError, ValueError, urllib.error.URLError) as error:
            tried.append(f"{url}: {getattr(error, 'reason', error)}")
            return None


def _bare(name: str) -> str:
    """`ocaml-react`, `react` and `react-ocaml` are one name."""
    return name.replace("ocaml-", "").replace("-ocaml", "").replace("-", "").replace("_", "").lower()


def _digest(kind: str, content: bytes) -> str:
    if kind not in ("md5", "sha256", "sha512", "sha384", "sha1"):
        return f"unknown checksum {kind}"
    return hashlib.new(kind, content).hexdigest()
