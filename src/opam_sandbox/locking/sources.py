"""Finds, for every source of a package, its sha256 and size, and all the places that it can be had from.

opam files may know an archive by md5 or sha512 alone; the lock knows every byte by sha256. What Debian's source pool
holds with the same checksum is entered by its pool path; anything else is downloaded once, verified and hashed.
"""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.apt_lists import SourceFile
from opam_sandbox.locking.cache import Memo
from opam_sandbox.locking.package_files import CHECKSUMS
from opam_sandbox.locking.secrets import Secrets
from opam_sandbox.opam.formulas import strings
from opam_sandbox.opam.opamfile import Item
from opam_sandbox.passwords import holds_password, without_password

DEBIAN = "debian:"
# What is asked for a source. Anything else, such as file:///..., would be read on this machine, and names nothing on others.
_REMOTE = ("http://", "https://", "ftp://", DEBIAN)
_TIMEOUT = 60
_CHUNK = 1 << 20
_ABSENT = (404, 410)
# What servers answer to HEAD that know GET alone.
_NO_HEAD = (403, 405, 501)
_LARGEST = 8 << 30  # of an archive, in bytes: opam files do not say how large it is
_CHECKSUM_LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}
_ORIGINAL = re.compile(r"/([^/_]+)_([^/_]+)\.orig\.tar\.[a-z0-9]+$")


@dataclass(frozen=True)
class Wanted:
    """A source as an opam file states it: `name` is "" for the archive; checksums as (kind, hex)."""

    name: str
    urls: Tuple[str, ...]
    checksums: Tuple[Tuple[str, str], ...]


class OutOfReach(ToolError):
    """A source that no place gave: the message says which, and lists the places."""


@dataclass(frozen=True)
class Locked:
    """A source as the lock states it: `urls` in the order upstream's own, then Debian's pool; size in bytes."""

    name: str
    urls: Tuple[str, ...]
    sha256: str
    size: int


def wanted_sources(items: Iterable[Item], package: str) -> List[Wanted]:
    """The url and extra-source sections of an opam file. Raises ToolError for one that makes no sense."""
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
            kind, value = kind or "md5", value.lower()
            # It becomes part of addresses and file names.
            if len(value) != _CHECKSUM_LENGTHS.get(kind) or not re.fullmatch("[0-9a-f]+", value):
                raise ToolError(f"{package}: its opam file has {text!r}, which is not a checksum")
            checksums.append((kind, value))
        if any(map(holds_password, urls)):
            raise ToolError(
                f"{package}: its opam file has a URL with a user or a password, {without_password(urls[0])}. The lockfile and "
                "the image would hold it, as they hold the opam file. Put the file into a mirror of [opam].archive_mirrors, "
                "whose URL may have a password, and take the user out of the opam file"
            )
        known = [kind for kind, _ in checksums if kind in CHECKSUMS]
        if checksums and not known:
            raise ToolError(
                f"{package}: opam verifies a source by {', '.join(CHECKSUMS)}, and its opam file has none of these for {urls[:1]}"
            )
        if not urls:
            raise ToolError(f"{package}: its opam file has a {item.name} section without src")
        result.append(Wanted(item.label if item.name == "extra-source" else "", tuple(urls), tuple(checksums)))
    return result


class SourceFinder:
    """`pool`: the files of Debian's source packages; `mirrors`: Debian mirrors; `archive_mirrors`: opam caches.

    `known` keeps what is known of archives by their checksums, for ever; `session` what was seen in this run. `secrets`:
    passwords of mirrors.
    """

    def __init__(
        self,
        pool: Iterable[SourceFile],
        mirrors: Sequence[str],
        archive_mirrors: Sequence[str],
        known: Optional[Memo] = None,
        session: Optional[Memo] = None,
        secrets: Optional[Secrets] = None,
    ) -> None:
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
        self._known = known
        self._session = session
        self._secrets = secrets or Secrets()

    def lock(self, package: str, wanted: Wanted) -> Locked:
        """Raises OutOfReach, naming every place asked, where nothing with the right checksums can be had."""
        if not wanted.checksums:
            raise OutOfReach(
                f"{package}: its source {wanted.urls[0]} has no checksum in the opam file: put the package with an "
                "archive and its sha256 into an overlay repository"
            )
        # Of the package: an archive that its namesake in Debian's pool is, is none that another's can be.
        key = _key("source", package, *wanted.urls, *(f"{kind}={value}" for kind, value in wanted.checksums))
        found = self._session.get(key) if self._session else None
        if found is None:
            try:
                locked = self._lock(package, wanted)
                found = {"urls": locked.urls, "sha256": locked.sha256, "size": locked.size}
            except OutOfReach as error:
                found = {"error": str(error)}
            if self._session:
                self._session.put(key, found)
        if "error" in found:
            raise OutOfReach(found["error"])
        return Locked(wanted.name, tuple(found["urls"]), found["sha256"], found["size"])

    def found_since(self, wanted: Wanted) -> Optional[Locked]:
        """A source that `lock` did not find: whether one of the same checksums was found for another package since."""
        remote = tuple(filter(_is_remote, wanted.urls))
        return self._seen_before(replace(wanted, urls=remote)) if remote and wanted.checksums else None

    def _lock(self, package: str, wanted: Wanted) -> Locked:
        tried: List[str] = []
        local = [url for url in wanted.urls if not _is_remote(url)]
        if local:
            tried += [
                f"{without_password(url)}: not http or https: files of this machine are not read" for url in local
            ]
            # The lockfile names places that are the same for everybody.
            wanted = replace(wanted, urls=tuple(filter(_is_remote, wanted.urls)))
        file = self._in_pool(wanted, tried)
        if file is not None:
            checksums = dict(file.checksums)
            upstream = [url for url in wanted.urls if not url.startswith(DEBIAN)]
            return Locked(wanted.name, (*upstream, DEBIAN + file.path), checksums["sha256"], file.size)
        if local and not wanted.urls:
            raise OutOfReach(
                f"{package}: its source {without_password(local[0])} is neither http:// nor https://. Files of this machine are "
                "not read, as a lockfile means the same everywhere: put it where all can have it, and that URL into the opam file"
            )
        before = self._seen_before(wanted)
        if before is not None:
            return before
        for url in self._candidates(wanted):
            content = self._download(url, wanted, tried)
            if content is not None:
                return self._remember(wanted, Locked(wanted.name, self._and_pool(wanted.urls, content[0]), *content))
        for file in self._namesakes(package):
            if self._has(file, wanted, tried):
                checksums = dict(file.checksums)
                urls = (*wanted.urls, DEBIAN + file.path)
                return self._remember(wanted, Locked(wanted.name, urls, checksums["sha256"], file.size))
        what = f"its source {wanted.name}" if wanted.name else "its archive"
        places = "\n    ".join(tried) or "no place to ask"
        raise OutOfReach(f"{package}: {what} cannot be had:\n    {places}")

    def _seen_before(self, wanted: Wanted) -> Optional[Locked]:
        """What an earlier run downloaded and verified. Only a whole match counts: all of the same checksums."""
        found = self._known.get(_archive_key(wanted)) if self._known else None
        if found is None:
            return None
        urls = self._and_pool((*wanted.urls, *found["more"]), found["sha256"])
        return Locked(wanted.name, urls, found["sha256"], found["size"])

    def _and_pool(self, urls: Tuple[str, ...], sha256: str) -> Tuple[str, ...]:
        """`urls` and, if none of them is in Debian's pool, the pool's file with that sha256 (hex), if there is one.

        So a lockfile names the same places whether upstream's was in reach or not.
        """
        if any(url.startswith(DEBIAN) for url in urls):
            return urls
        files = self._by_checksum.get(("sha256", sha256), ())
        return (*urls, *[DEBIAN + file.path for file in files if self._is_there(file, [])][:1])

    def _remember(self, wanted: Wanted, locked: Locked) -> Locked:
        if self._known:
            more = [url for url in locked.urls if url not in wanted.urls]
            self._known.put(_archive_key(wanted), {"sha256": locked.sha256, "size": locked.size, "more": more})
        return locked

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

    def _has(self, file: SourceFile, wanted: Wanted, tried: List[str]) -> bool:
        """Whether a file of the pool has all of the wanted checksums, those that the index does not state included.

        The index's sha256 stands for the content, so that a file is downloaded once and never again.
        """
        stated = dict(file.checksums)
        if "sha256" not in stated:
            return False
        key = _key("pool", stated["sha256"])
        found = self._known.get(key) if self._known else None
        if found is None:
            for mirror in self._mirrors:
                found = self._hashes(f"{mirror}/{file.path}", ("sha256", *_CHECKSUM_LENGTHS), tried)
                if found is not None:
                    break
            if found is None or found["sha256"] != stated["sha256"]:
                return False
            if self._known:
                self._known.put(key, found)
        elif not self._is_there(file, tried):
            return False
        return self._fits(DEBIAN + file.path, found, wanted, tried)

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
            elif self._is_there(file, tried):
                return file
        return None

    def _is_there(self, file: SourceFile, tried: List[str]) -> bool:
        """Whether a mirror has a file of the index. Why none has it goes into `tried`."""
        # Mirrors list source files in their index that they do not have.
        reasons = []
        for mirror in self._mirrors:
            error = self._refusal(f"{mirror}/{file.path}", "HEAD")
            if isinstance(error, urllib.error.HTTPError) and error.code in _NO_HEAD:
                error = self._refusal(f"{mirror}/{file.path}", "GET")
            if error is None:
                return True
            if not _says_absent(error):
                reason = self._secrets.hide(str(getattr(error, "reason", error)))
                reasons.append(f"{without_password(mirror)} did not say: {reason}")
        tried.append(f"{DEBIAN}{file.path}: in the index, but {'; '.join(reasons) or 'on no mirror'}")
        return False

    def _refusal(self, url: str, method: str) -> Optional[Exception]:
        """What went wrong when a mirror was asked for a file; None if it has it. Its content is not read."""
        try:
            with urllib.request.urlopen(self._secrets.request(url, method), timeout=_TIMEOUT):
                return None
        except (OSError, ValueError, HTTPException) as error:
            return error

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

    def _download(self, url: str, wanted: Wanted, tried: List[str]) -> "Optional[Tuple[str, int]]":
        """sha256 and size of what the URL has, if it has all the wanted checksums."""
        found = self._hashes(url, ("sha256", *(kind for kind, _ in wanted.checksums)), tried)
        if found is None or not self._fits(url, found, wanted, tried):
            return None
        return found["sha256"], found["size"]

    @staticmethod
    def _fits(url: str, found: Dict[str, Any], wanted: Wanted, tried: List[str]) -> bool:
        for kind, value in wanted.checksums:
            if found[kind] != value:
                tried.append(f"{without_password(url)}: its {kind} is {found[kind]}, not {value}")
                return False
        return True

    def _hashes(self, url: str, kinds: Iterable[str], tried: List[str]) -> Optional[Dict[str, Any]]:
        """Download: checksums by kind, and `size`. None, with the reason in `tried`, where that fails."""
        host = _host(url)
        key = _key("host", host)
        silent = self._session.get(key) if self._session and host else None
        if silent is not None:
            tried.append(f"{without_password(url)}: {silent['reason']}")
            return None
        hashes = {kind: hashlib.new(kind) for kind in kinds}
        size = 0
        try:
            with urllib.request.urlopen(self._secrets.request(url), timeout=_TIMEOUT) as answer:
                for chunk in iter(lambda: answer.read(_CHUNK), b""):
                    size += len(chunk)
                    if size > _LARGEST:
                        raise ValueError(f"it has more than {_LARGEST >> 30} GiB, or no end")
                    for one in hashes.values():
                        one.update(chunk)
        except (OSError, ValueError, HTTPException) as error:
            reason = self._secrets.hide(str(getattr(error, "reason", error)))
            tried.append(f"{without_password(url)}: {reason}")
            # A host that does not answer would cost its timeout once for each of its archives.
            unreachable = isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError)
            if self._session and host and unreachable:
                self._session.put(key, {"reason": reason})
            return None
        return {"size": size, **{kind: one.hexdigest() for kind, one in hashes.items()}}


def _is_remote(url: str) -> bool:
    return url.lower().startswith(_REMOTE)


def _says_absent(error: Exception) -> bool:
    """Whether a mirror said that it has no such file, rather than nothing that tells."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _ABSENT
    return isinstance(getattr(error, "reason", error), FileNotFoundError)


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:  # it is no URL, as urlopen will say
        return ""


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _archive_key(wanted: Wanted) -> str:
    return _key("archive", *(f"{kind}={value}" for kind, value in sorted(wanted.checksums)))


def _bare(name: str) -> str:
    """`ocaml-react`, `react` and `react-ocaml` are one name."""
    return name.replace("ocaml-", "").replace("-ocaml", "").replace("-", "").replace("_", "").lower()
