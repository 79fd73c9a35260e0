"""Asks mirrors, and whatever else has sources, for files: whether they have one, and what its checksums are."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Dict, Iterable, List, Optional, Sequence
from urllib.parse import urlsplit

from opam_sandbox.locking.apt_lists import SourceFile
from opam_sandbox.locking.cache import Memo, key_of
from opam_sandbox.locking.secrets import Secrets
from opam_sandbox.passwords import without_password

# What begins a path in Debian's pool, in lockfiles and messages.
DEBIAN = "debian:"
_TIMEOUT = 60
_CHUNK = 1 << 20
_ABSENT = (404, 410)
# What servers answer to HEAD that know GET alone.
_NO_HEAD = (403, 405, 501)
_LARGEST = 8 << 30  # of an archive, in bytes: opam files do not say how large it is


class Mirrors:
    """`debian`: URLs of Debian mirrors. `session` keeps what was seen in this run. `secrets`: passwords of mirrors."""

    def __init__(self, debian: Sequence[str], session: Optional[Memo], secrets: Secrets) -> None:
        self.debian = [mirror.rstrip("/") for mirror in debian]
        self._session = session
        self._secrets = secrets

    def has(self, file: SourceFile, tried: List[str]) -> bool:
        """Whether a mirror has a file of the index. Why none has it goes into `tried`."""
        # Mirrors list source files in their index that they do not have.
        reasons = []
        for mirror in self.debian:
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

    def hashes(self, url: str, kinds: Iterable[str], tried: List[str]) -> Optional[Dict[str, Any]]:
        """Download: checksums by kind, and `size`. None, with the reason in `tried`, where that fails."""
        host = _host(url)
        key = key_of("host", host)
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
