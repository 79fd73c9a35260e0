"""The accounts of an image: those that the maintainer scripts of several layers added, in one /etc/passwd and its kin.

Such a layer holds the whole file as it was where the layer was built; of two layers beside each other the topmost would hide
what the other added. Both allocate numbers from the same range, so an account that comes second may get another one, and
with it its files (`owners`). Formats: passwd(5), group(5), shadow(5), gshadow(5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

from opam_sandbox.account_files import SYSTEM, Entry, free_number, read_entries
from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import view_files

Table = Dict[str, Entry]
# A layer's place and a number in it -> the number in the image.
_Numbers = Dict[Tuple[int, str], str]

# Of each file the fields that list members, by their places.
_MEMBERS = {"group": (3,), "gshadow": (2, 3)}


def merge(root: Path, layers: Sequence[Path]) -> List[str]:
    """Enter into the files below `root`, a view of `layers` (bottom first), what each of these added. Returns their names.

    layers[:2] are the base and opam's root, which all others were built on. What the topmost layer says of an account holds.
    """
    common, others = layers[:2], layers[2:]
    changed = []
    groups: _Numbers = {}
    for name in ("group", "passwd", "gshadow", "shadow"):  # groups first: accounts name theirs by number
        merged = _merge(name, root, common, others, groups)
        if merged is None:
            continue
        table, numbers = merged
        if name == "group":
            groups = numbers
        changed += _write(root, name, table)
    return changed


def _merge(
    name: str, root: Path, common: Sequence[Path], others: Sequence[Path], groups: _Numbers
) -> Optional[Tuple[Table, _Numbers]]:
    """The united table of one file, and the numbers that changed; None where fewer than two layers have the file."""
    found = [(place, table) for place, table in enumerate(_read(layer, name) for layer in others) if table is not None]
    if len(found) < 2:
        return None
    before: Table = {}
    for layer in common:
        before = _read(layer, name) or before
    result = {key: list(entry) for key, entry in (_read(root, name) or {}).items()}
    used = {entry[2] for entry in result.values() if len(entry) > 2}
    numbers: _Numbers = {}
    numbered = name in ("passwd", "group")
    for place, table in found:
        for key, entry in table.items():
            if ":" in key:
                continue
            if key in result:
                _unite_members(name, result[key], entry)
                if numbered and len(entry) > 2 and len(result[key]) > 2:
                    numbers[place, entry[2]] = result[key][2]
            elif key not in before:
                new = list(entry)
                if numbered and len(new) > 2:
                    new[2] = _free(name, new, used)
                    used.add(new[2])
                    numbers[place, entry[2]] = new[2]
                if name == "passwd" and len(new) > 3:
                    new[3] = groups.get((place, entry[3]), entry[3])
                result[key] = new
    return result, numbers


def _unite_members(name: str, entry: Entry, other: Entry) -> None:
    for place in _MEMBERS.get(name, ()):
        if len(entry) > place and len(other) > place:
            members = dict.fromkeys(f"{entry[place]},{other[place]}".split(","))
            entry[place] = ",".join(member for member in members if member)


def _free(name: str, entry: Entry, used: Set[str]) -> str:
    """The entry's number, or the first free one of the system's if another account has it. Raises ToolError."""
    number = free_number(entry[2], used)
    if number is not None:
        return number
    raise ToolError(
        f"/etc/{name}: several layers give the number {entry[2]!r:.40} to accounts of their own, and no number from "
        f"{SYSTEM[0]} to {SYSTEM[-1]} is free for {entry[0]!r:.80}"
    )


def _read(root: Path, name: str) -> Optional[Table]:
    """Name -> fields of <root>/etc/<name>; None if there is no such file, or only behind a link."""
    entries = read_entries(root, name)
    if entries is None:
        return None
    table: Table = {}
    for entry in entries:
        # A second entry of a name, which nobody finds by the name, goes by the whole line.
        table.setdefault(":".join(entry) if entry[0] in table else entry[0], entry)
    return table


def _write(root: Path, name: str, table: Table) -> List[str]:
    before = view_files.read_text(root, f"etc/{name}", links=False)
    text = "".join(":".join(entry) + "\n" for entry in table.values())
    if before is None or before == text:
        return []
    # In place, so that the file keeps its mode.
    view_files.overwrite(root, f"etc/{name}", text.encode("utf-8", "surrogateescape"))
    return [name]
