"""Random strings that stand for secrets, and a search for them in whatever was written or shown."""

from __future__ import annotations

import base64
import gzip
import os
import re
import secrets
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Dict, Iterable, List, Optional, Set, Tuple, Type
from urllib.parse import quote

_CHUNK = 1 << 20


class Canaries:
    """Strings by name, made when they are first asked for. They have signs that URLs, JSON and base64 change."""

    def __init__(self) -> None:
        self._by_name: Dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return self._by_name.setdefault(name, f"{secrets.token_hex(8)}+:{secrets.token_hex(8)}")

    def in_url(self, name: str) -> str:
        """The canary as a part of a URL."""
        return quote(self[name], safe="")

    def forms(self) -> Dict[bytes, str]:
        """All forms in which a canary would be found -> its name."""
        found = {}
        for name, text in self._by_name.items():
            raw = text.encode()
            for form in (raw, quote(text, safe="").encode(), quote(text, safe="").lower().encode(), raw.hex().encode()):
                found[form] = name
            # Either half: who shows a half shows too much.
            for half in text.split("+:"):
                found[half.encode()] = name
            for shift in range(3):
                # What does not depend on the neighbours in base64 of a longer text.
                encoded = base64.b64encode(b"x" * shift + raw)
                found[encoded[4 if shift else 0 : len(encoded) - 4]] = name
        return found


def search(canaries: Canaries, places: Iterable[Path], work: Path) -> List[Tuple[str, str]]:
    """(file, canary) of all files below the places, as they are: what is compressed is to be unpacked before."""
    patterns = work / "patterns"
    patterns.write_bytes(b"".join(form + b"\n" for form in canaries.forms()))
    found: List[Tuple[str, str]] = []
    waiting = [str(place) for place in places]
    while waiting:
        some, waiting = waiting[:1000], waiting[1000:]
        # grep reads a gigabyte in a second, which Python does not.
        done = subprocess.run(
            ["grep", "-aroFH", "--null", "-f", str(patterns), "--", *some],
            stdout=subprocess.PIPE,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        )
        assert done.returncode in (0, 1)
        for line in done.stdout.splitlines():
            path, _, form = line.partition(b"\0")
            found.append((os.fsdecode(path), canaries.forms()[form]))
    return sorted(set(found))


def unpack_layers(blobs: Path, target: Path) -> int:
    """Write the tars of a directory's gzip blobs into another one, for `search`. Returns how many there are."""
    target.mkdir()
    count = 0
    for blob in blobs.iterdir():
        content = blob.read_bytes()
        if content[:2] == b"\x1f\x8b":
            (target / blob.name).write_bytes(gzip.decompress(content))
            count += 1
    return count


class Watcher:
    """Looks at the arguments of all processes of the machine as long as the context; `found`: canaries' names and who."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.found: Set[Tuple[str, str]] = set()
        self.rounds = 0

    def __enter__(self) -> "Watcher":
        self._pattern = re.compile(b"|".join(map(re.escape, self._canaries.forms())))
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        forms = self._canaries.forms()
        while not self._end.wait(0.1):
            self.rounds += 1
            for name in os.listdir("/proc"):
                if not name.isdigit() or int(name) == os.getpid():
                    continue
                try:
                    arguments = Path("/proc", name, "cmdline").read_bytes()
                except OSError:
                    continue
                for match in self._pattern.finditer(arguments):
                    self.found.add((forms[match.group()], arguments[:200].decode(errors="replace")))
