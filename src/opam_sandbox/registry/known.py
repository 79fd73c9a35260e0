"""What is remembered of a registry: which repositories were seen to have which blobs.

It is a hint, and never more: whoever uses it asks the registry. One file for each registry, with lines `DIGEST REPOSITORY`, is
added to by any number of processes.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Set, Tuple

_LINE = re.compile(r"(sha256:[0-9a-f]{64}) ([a-z0-9][a-z0-9._/-]*)\Z")
# Bytes. A larger file begins anew.
_LARGEST = 8 << 20
# Repositories that are tried for one blob.
_TRIED = 3


class Known:
    """directory: where the files are, None to remember nothing."""

    def __init__(self, directory: Optional[Path], host: str) -> None:
        self._path = directory / re.sub(r"[^A-Za-z0-9.-]", "_", host) if directory else None
        self._lock = threading.Lock()
        self._seen: Set[Tuple[str, str]] = set()
        self._by_digest: Dict[str, List[str]] = {}
        self._read()

    def _read(self) -> None:
        if self._path is None:
            return
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                lines = file.read(_LARGEST).splitlines()
        except OSError:
            return  # it is not there yet, or cannot be used: then nothing is known
        for line in lines:
            match = _LINE.match(line)
            if match:
                self._seen.add((match.group(1), match.group(2)))
                self._by_digest.setdefault(match.group(1), []).append(match.group(2))

    def repositories(self, digest: str, repository: str) -> List[str]:
        """Others than `repository` that had a blob, what was seen last first."""
        with self._lock:
            found = self._by_digest.get(digest, [])
            return [one for one in dict.fromkeys(reversed(found)) if one != repository][:_TRIED]

    def add(self, digests: Iterable[str], repository: str) -> None:
        """A repository has these blobs."""
        with self._lock:
            new = [digest for digest in digests if (digest, repository) not in self._seen]
            self._seen.update((digest, repository) for digest in new)
            if self._path is None or not new:
                return
            text = "".join(f"{digest} {repository}\n" for digest in new)
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._path.exists() and self._path.stat().st_size > _LARGEST:
                    self._path.unlink()
                descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    os.write(descriptor, text.encode())
                finally:
                    os.close(descriptor)
            except OSError:
                pass  # nothing depends on it
