"""What an opam file says of its sources: where they are, and their checksums."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, List, Tuple

from opam_sandbox.errors import ToolError
from opam_sandbox.locking.package_files import CHECKSUMS
from opam_sandbox.opam.formulas import strings
from opam_sandbox.opam.opamfile import Item
from opam_sandbox.passwords import holds_password, without_password

# In hex digits.
CHECKSUM_LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True)
class Wanted:
    """A source as an opam file states it: `name` is "" for the archive; checksums as (kind, hex)."""

    name: str
    urls: Tuple[str, ...]
    checksums: Tuple[Tuple[str, str], ...]


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
            if len(value) != CHECKSUM_LENGTHS.get(kind) or not re.fullmatch("[0-9a-f]+", value):
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
