"""dpkg's database: what a layer adds to it, and the database of several layers merged.

The status file lists every installed package, so no layer can own it. A layer's description keeps what the layer
changed instead, and the whole is put together again wherever layers are merged:

    "dpkg": {"status": {"libssl-dev:amd64": "<paragraph>"}, "triggers": ["/usr/share/mime libfoo"]}

Sources: dpkg(1), deb-triggers(5), Debian policy 4 (control files).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List

DATABASE = "var/lib/dpkg"


def read_status(root: Path) -> Dict[str, str]:
    """`name:architecture` -> paragraph of <root>/var/lib/dpkg/status; empty if there is no dpkg."""
    try:
        text = (root / DATABASE / "status").read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return {}
    result: Dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        paragraph = paragraph.strip("\n")
        if paragraph:
            fields = _fields(paragraph)
            result[f"{fields.get('Package', '')}:{fields.get('Architecture', '')}"] = paragraph
    return result


def _fields(paragraph: str) -> Dict[str, str]:
    fields: Dict[str, str] = {}
    for line in paragraph.split("\n"):
        if line[:1] not in (" ", "\t") and ":" in line:
            name, value = line.split(":", 1)
            fields[name] = value.strip()
    return fields


def read_triggers(root: Path) -> List[str]:
    """The lines of <root>/var/lib/dpkg/triggers/File: which package wants to know of changes below which path."""
    try:
        text = (root / DATABASE / "triggers" / "File").read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return []
    return [line for line in text.split("\n") if line]


def difference(before: Dict[str, str], triggers_before: Iterable[str], root: Path) -> Dict[str, Any]:
    """What a layer's `dpkg` says: the paragraphs and trigger lines of `root` that were not there before."""
    known = set(triggers_before)
    return {
        "status": {key: text for key, text in sorted(read_status(root).items()) if before.get(key) != text},
        "triggers": sorted(line for line in read_triggers(root) if line not in known),
    }


def merge(root: Path, additions: Iterable[Dict[str, Any]]) -> bool:
    """Enter what layers add into the database below `root`; returns whether there was anything to enter."""
    additions = [addition for addition in additions if addition.get("status") or addition.get("triggers")]
    if not additions:
        return False
    status = read_status(root)
    triggers = read_triggers(root)
    for addition in additions:
        status.update(addition.get("status", {}))
        triggers += [line for line in addition.get("triggers", []) if line not in triggers]
    database = root / DATABASE
    _replace(database / "status", "".join(f"{status[key]}\n\n" for key in sorted(status)))
    if triggers:
        _replace(database / "triggers" / "File", "".join(f"{line}\n" for line in triggers))
    return True


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    path.chmod(0o644)
