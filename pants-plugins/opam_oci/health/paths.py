"""Names of the files of a report. No name of a package leads out of its directory, and no two of them to one file."""

from __future__ import annotations

import hashlib
import re

from opam_oci.health.results import PackageResult, RootResult

_UNSAFE = re.compile(r"[^A-Za-z0-9_+~.=-]")
# A file's name has 255 bytes at most; ".json" and the like have to fit in.
_LONGEST = 200


def safe(name: str) -> str:
    """The name as a part of a path: anything but letters, digits and `_+~.=-` as %HEX, and no dot at its begin."""
    encoded = _UNSAFE.sub(_percent, name)
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) > _LONGEST:
        # "%%" is in no other name.
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        encoded = f"{encoded[: _LONGEST - 80]}%%{digest}"
    return encoded or "%"


def log_path(package: PackageResult) -> str:
    """The file of a package's log, as in "logs/lwt.5.6.1%2F0123456789ab.log"."""
    return f"logs/{safe(package.id)}.log"


def day10_path(root: RootResult) -> str:
    """As in "day10/lwt.5.6.1.json"; of a root that is solved with a compiler, "day10/ocaml=5.3.0/lwt.5.6.1.json"."""
    directory = f"day10/{safe(root.compiler)}" if root.compiler else "day10"
    return f"{directory}/{safe(root.full_name)}.json"


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode(errors="surrogatepass"))
