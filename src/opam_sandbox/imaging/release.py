"""Which release of which distribution a root is: programs run with the libraries of the one that they were linked in.

Source: os-release(5).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, NamedTuple

from opam_sandbox.sandbox import view_files

_FILES = ("etc/os-release", "usr/lib/os-release")
_LINE = re.compile(r"\s*([A-Z][A-Z0-9_]*)=(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^\s\"']*))\s*\Z")


class Release(NamedTuple):
    """`id` is os-release's ID, `version` its VERSION_ID; "" where a root does not say. Distributions that change each day have
    no VERSION_ID; `codename` is theirs, which says little."""

    id: str
    version: str
    codename: str

    @property
    def shown(self) -> str:
        """In words."""
        if not self.version and self.id:
            return " ".join(word for word in (self.id, self.codename, "(which has no VERSION_ID)") if word)
        return f"{self.id} {self.version}".strip() or "of no distribution that it names"


def read_release(root: Path) -> Release:
    """What the root says of itself."""
    for name in _FILES:
        text = view_files.read_text(root, name)
        if text is None:
            continue
        values: Dict[str, str] = {}
        for line in text.split("\n"):
            match = _LINE.match(line)
            if match:
                values[match.group(1)] = next((one for one in match.groups()[1:] if one is not None), "")
        return Release(values.get("ID", ""), values.get("VERSION_ID", ""), values.get("VERSION_CODENAME", ""))
    return Release("", "", "")
