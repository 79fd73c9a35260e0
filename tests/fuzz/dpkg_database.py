"""dpkg's status and triggers of a view, which maintainer scripts may have written, and what layers add to them."""

from __future__ import annotations

import json
from typing import List

from opam_sandbox import deb822, dpkg
from opam_sandbox.errors import ToolError
from opam_sandbox.files import write_json
from tests.fuzz._places import place

SEEDS: List[bytes] = [
    b"""Package: libc6
Status: install ok installed
Maintainer: J\xf6rg <x@example.org>
Architecture: amd64
Version: 2.41-1
Description: GNU C library
 more: than
 .
\tone line

Package: tar
Architecture: amd64
Version: 1

/usr/share/mime shared
""",
    b"Package: a\nArchitecture: all\n\n\n\nPackage: a\nArchitecture: all\n",
]
TOKENS = [
    b"Package:",
    b"Architecture:",
    b"\n\n",
    b"\n ",
    b" .\n",
    b":",
    b"Version:",
    b"-----BEGIN PGP SIGNED MESSAGE-----",
]


def run(data: bytes) -> None:
    root = place("dpkg")
    database = root / "var/lib/dpkg"
    (database / "triggers").mkdir(parents=True, exist_ok=True)
    half = data.find(b"\n/")
    status, triggers = (data[:half], data[half + 1 :]) if half >= 0 else (data, data)
    (database / "status").write_bytes(status)
    (database / "triggers/File").write_bytes(triggers)
    for stanza in deb822.stanzas(status.decode("utf-8", "surrogateescape")):
        deb822.fields(stanza)
    added = dpkg.difference(dpkg.Database({}, {}), root)
    # It goes through a layer's description.
    write_json(str(root / "layer.json"), added)
    assert json.loads((root / "layer.json").read_text(encoding="utf-8")) == added
    (database / "status").write_bytes(b"Package: other\nArchitecture: all\n")
    try:
        dpkg.merge(root, [added, added])
    except ToolError:
        return
    found = dpkg.read_status(root)
    assert "other:all" in found or "other:all" in added["status"]
    assert set(added["status"]) <= set(found)
    assert set(added["triggers"]) <= set(dpkg.read_triggers(root))
