"""dpkg's database: what a layer adds to it, and the database of several layers merged.

The status file lists every installed package, so no layer can own it. A layer's description keeps what the layer
changed instead, and the whole is put together again wherever layers are merged:

    "dpkg": {"status": {"libssl-dev:amd64": "<paragraph>"}, "triggers": ["/usr/share/mime libfoo"]}

Sources: dpkg(1), deb-triggers(5), Debian policy 4 (control files).
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, List

from opam_sandbox import deb822
from opam_sandbox.layer.description import DpkgFacts
from opam_sandbox.sandbox import view_files

DATABASE = "var/lib/dpkg"
_STATUS = f"{DATABASE}/status"
_TRIGGERS = f"{DATABASE}/triggers/File"


def read_status(root: Path) -> Dict[str, str]:
    """`name:architecture` -> paragraph of <root>/var/lib/dpkg/status; empty if there is no dpkg."""
    result: Dict[str, str] = {}
    for paragraph in deb822.stanzas(view_files.read_text(root, _STATUS) or ""):
        fields = deb822.fields(paragraph)
        result[f"{fields.get('Package', '')}:{fields.get('Architecture', '')}"] = paragraph
    return result


def read_triggers(root: Path) -> List[str]:
    """The lines of <root>/var/lib/dpkg/triggers/File: which package wants to know of changes below which path."""
    return [line for line in (view_files.read_text(root, _TRIGGERS) or "").split("\n") if line]


def difference(before: Dict[str, str], triggers_before: Iterable[str], root: Path) -> DpkgFacts:
    """What a layer's `dpkg` says: the paragraphs and trigger lines of `root` that were not there before."""
    known = set(triggers_before)
    return {
        "status": {key: text for key, text in sorted(read_status(root).items()) if before.get(key) != text},
        "triggers": sorted(line for line in read_triggers(root) if line not in known),
    }


def merge(root: Path, additions: Iterable[DpkgFacts]) -> bool:
    """Enter what layers add into the database below `root`; returns whether there was anything to enter.

    Raises ToolError where a link is in the database's place.
    """
    additions = [addition for addition in additions if addition.get("status") or addition.get("triggers")]
    if not additions:
        return False
    status = read_status(root)
    triggers = read_triggers(root)
    known = set(triggers)
    for addition in additions:
        status.update(addition.get("status", {}))
        added = [line for line in dict.fromkeys(addition.get("triggers", [])) if line not in known]
        triggers += added
        known.update(added)
    _replace(root, _STATUS, "".join(f"{status[key]}\n\n" for key in sorted(status)))
    if triggers:
        _replace(root, _TRIGGERS, "".join(f"{line}\n" for line in triggers))
    return True


def _replace(root: Path, name: str, text: str) -> None:
    view_files.write(root, name, text.encode("utf-8", "surrogateescape"))
