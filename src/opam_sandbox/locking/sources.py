"""Finds, for every source of a package, its sha256 and size, and all the places that it can be had from.

opam files may know an archive by md5 or sha512 alone; the lock knows every byte by sha256. What Debian's source pool
holds with the same checksum is entered by its pool path; anything else is downloaded once, verified and hashed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.apt_lists import SourceFile
from opam_sandbox.locking.cache import Memo, key_of
from opam_sandbox.locking.mirrors import DEBIAN, Mirrors
from opam_sandbox.locking.secrets import Secrets
from opam_sandbox.locking.wanted_sources import CHECKSUM_LENGTHS, Wanted
from opam_sandbox.passwords import without_password

# What is asked for a source. Anything else, such as file:///..., would be read on this machine, and names nothing on others.
_REMOTE = ("http://", "https://", "ftp://", DEBIAN)
_ORIGINAL = re.compile(r"/([^/_]+)_([^/_]+)\.orig\.tar\.[a-z0-9]+$")


class OutOfReach(ToolError):
    """A source that no place gave: the message says which, and lists the places."""


@dataclass(frozen=True)
class Locked:
    """A source as the lock states it: `urls` in the order upstream's own, then Debian's pool; size in bytes."""

    name: str
    urls: Tuple[str, ...]
    sha256: str
    size: int


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
        self._mirrors = Mirrors(mirrors, session, secrets or Secrets())
        self._archive_mirrors = [mirror.rstrip("/") for mirror in archive_mirrors]
        self._known = known
        self._session = session

    def lock(self, package: str, wanted: Wanted) -> Locked:
        """Raises OutOfReach, naming every place asked, where nothing with the right checksums can be had."""
        if not wanted.checksums:
            raise OutOfReach(
                f"{package}: its source {wanted.urls[0]} has no checksum in the opam file: put the package with an "
                "archive and its sha256 into an overlay repository"
            )
        # Of the package: an archive that its namesake in Debian's pool is, is none that another's can be.
        key = key_of("source", package, *wanted.urls, *(f"{kind}={value}" for kind, value in wanted.checksums))
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
        return (*urls, *[DEBIAN + file.path for file in files if self._mirrors.has(file, [])][:1])

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
        key = key_of("pool", stated["sha256"])
        found = self._known.get(key) if self._known else None
        if found is None:
            for mirror in self._mirrors.debian:
                found = self._mirrors.hashes(f"{mirror}/{file.path}", ("sha256", *CHECKSUM_LENGTHS), tried)
                if found is not None:
                    break
            if found is None or found["sha256"] != stated["sha256"]:
                return False
            if self._known:
                self._known.put(key, found)
        elif not self._mirrors.has(file, tried):
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
            elif self._mirrors.has(file, tried):
                return file
        return None

    def _candidates(self, wanted: Wanted) -> Iterator[str]:
        for mirror in self._archive_mirrors:
            for kind, value in wanted.checksums:
                yield f"{mirror}/{kind}/{value[:2]}/{value}"
        for url in wanted.urls:
            if url.startswith(DEBIAN):
                for mirror in self._mirrors.debian:
                    yield f"{mirror}/{url[len(DEBIAN) :]}"
            else:
                yield url

    def _download(self, url: str, wanted: Wanted, tried: List[str]) -> "Optional[Tuple[str, int]]":
        """sha256 and size of what the URL has, if it has all the wanted checksums."""
        found = self._mirrors.hashes(url, ("sha256", *(kind for kind, _ in wanted.checksums)), tried)
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


def _is_remote(url: str) -> bool:
    return url.lower().startswith(_REMOTE)


def _archive_key(wanted: Wanted) -> str:
    return key_of("archive", *(f"{kind}={value}" for kind, value in sorted(wanted.checksums)))


def _bare(name: str) -> str:
    """`ocaml-react`, `react` and `react-ocaml` are one name."""
    return name.replace("ocaml-", "").replace("-ocaml", "").replace("-", "").replace("_", "").lower()
