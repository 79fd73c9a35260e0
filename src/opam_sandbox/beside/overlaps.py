"""Paths that two packages' layers hold differently, though neither was built over the other.

Of such a path one package's would hide the other's, and which one is decided by the order of the layers alone. opam and dpkg,
which install one after the other, would have kept both changes, or refused. What is compared is what the inventories in the
store have: kind, mode, content, target of a link, attributes; that a layer removes a path, or hides all that a directory held
before, is a difference like others. Owners are compared by name, which layers' descriptions have where no rule gives them.

Two layers that a third one was built over were compared when that one was built. So a chain of packages costs nothing.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Set, Tuple, cast

from opam_sandbox import dpkg, dpkg_records
from opam_sandbox.errors import ToolError
from opam_sandbox.layer import inventory
from opam_sandbox.layer.description import Layer
from opam_sandbox.layer.store import Store

# Path -> the entry, as `inventory` writes it.
Entries = Mapping[bytes, bytes]

_ALTERNATIVES = "etc/alternatives"
# So many paths are named in a message.
_SHOWN = 20

# The state layer has the accounts of all layers (`layer/merge_accounts.py`); the files with a dash are older copies.
_UNITED = {f"etc/{name}{dash}".encode() for name in ("passwd", "group", "shadow", "gshadow") for dash in ("", "-")}
# update-catalog and update-xmlcatalog keep the version before.
_CATALOGS = (b"etc/xml", b"etc/sgml", b"var/lib/xml-core", b"var/lib/sgml-base")


class Overlap(NamedTuple):
    """A path (relative to the root) that two layers hold differently; `texts` say what each does to it, the lower's first."""

    path: bytes
    titles: Tuple[str, str]
    texts: Tuple[str, str]


class OverlapError(ToolError):
    """Packages that do not depend on one another hold the same paths differently."""


def check(store: Store, layers: Sequence[Layer], allowed: Sequence[str], what: str, field: str) -> None:
    """Compare the layers (bottom first; all are in the store). See `find_in_store` and `refuse`. Raises OverlapError."""
    refuse(find_in_store(store, layers), allowed, what, field)


def find_in_store(store: Store, layers: Sequence[Layer]) -> List[Overlap]:
    """`find` for layers in the store. Raises ToolError for a damaged one."""

    def entries(layer: Layer) -> Entries:
        recorded = inventory.entries((store.path(layer.diff_id).parent / "inventory").read_bytes())
        if recorded is None:
            store.discard(layer.diff_id)
            raise ToolError(f"{layer.title} is damaged in the store: its inventory is; run again, which makes it again")
        return recorded

    return find(layers, entries)


def refuse(overlaps: Sequence[Overlap], allowed: Sequence[str], what: str, field: str) -> None:
    """Raises OverlapError for those that are not allowed: these are glob patterns of absolute paths, in which `*` also stands
    for slashes. `what` would be made of the layers, `field` is where patterns are written."""
    if not overlaps:
        return
    # As with what is imported elsewhere in functions: in most builds no two layers hold a path differently.
    import fnmatch
    import re

    patterns = [re.compile(os.fsencode(fnmatch.translate(pattern)), re.DOTALL) for pattern in allowed]
    found = [one for one in overlaps if not any(pattern.match(b"/" + one.path) for pattern in patterns)]
    if not found:
        return
    lines = [
        f"  * {_shown(one.path)}: {one.titles[0]} {one.texts[0]}, {one.titles[1]} {one.texts[1]}"
        for one in found[:_SHOWN]
    ]
    if len(found) > _SHOWN:
        lines.append(f"  * and {len(found) - _SHOWN} more")
    raise OverlapError(
        f"{what}: packages that do not depend on one another hold the same paths differently, and what one of them did would "
        "be lost:\n"
        + "\n".join(lines)
        + f"\nIf the later package's may win, name the paths in {field}. If both changes are "
        "wanted, have one package depend on the other in an opam repository of your own: it is then built over it."
    )


def _may_differ(path: bytes) -> bool:
    """Whether a path is a catalog of the version before, or compiled from the file beside it, by the same program: another order
    of its constants is all that differs. If the files that they are made from differ, those are named."""
    directory, _, name = path.rpartition(b"/")
    if name.endswith(b".pyc") and name != b".pyc":
        return directory.rpartition(b"/")[2] == b"__pycache__"
    return name.endswith(b".old") and name != b".old" and directory in _CATALOGS


def find(layers: Sequence[Layer], entries: Callable[[Layer], Entries]) -> List[Overlap]:
    """The overlaps of `layers` (bottom first), by path. entries(layer): what it holds; asked for only where it counts."""
    packages = [layer for layer in layers if layer.kind == "package"]
    unchecked = strangers([layer.opam for layer in packages])
    tables = {number: entries(packages[number]) for number in range(len(packages)) if unchecked[number]}
    seen: Dict[bytes, None] = {}
    shared = set()
    for table in tables.values():
        shared.update(seen.keys() & table.keys())
        seen.update(dict.fromkeys(table))
    found: List[Overlap] = []
    united = _UNITED | _alternatives(packages)
    settled = _settled(packages)
    for path in sorted(shared):
        if path in united or _may_differ(path):
            continue
        holders = {
            number: _key(packages[number], path, table[path]) for number, table in tables.items() if path in table
        }
        if len(set(holders.values())) > 1:
            found += _overlaps(path, packages, holders, unchecked, settled.get(path, {}))
    return found


def _alternatives(packages: Sequence[Layer]) -> Set[bytes]:
    """The records and links of alternatives that several layers offer: `dpkg_union` has update-alternatives choose again."""
    facts = [layer.dpkg for layer in packages]
    found: Set[str] = set()
    for name in dpkg.changed(facts, dpkg_records.ALTERNATIVES):
        found |= {f"{_ALTERNATIVES}/{name}", dpkg_records.ALTERNATIVES + name}
        for fact in facts:
            for key, value in fact.get("records", {}).get(dpkg_records.ALTERNATIVES + name, {}).items():
                lines = value.split("\n")[1:]  # of "" the link, of a program `name<tab>link<tab>path` for each slave
                found.update([line.split("\t")[1] for line in lines] if key else lines)
                found.update(f"{_ALTERNATIVES}/{line.split(chr(9))[0]}" for line in lines if key)
    return {_path(name) for name in found}


def _settled(packages: Sequence[Layer]) -> Dict[bytes, Dict[str, bool]]:
    """Path -> titles of the packages that divert it (True), or override its mode and owner (False): `dpkg_union` and
    `layer/owners.py` do so to others'."""
    found: Dict[bytes, Dict[str, bool]] = {}
    for layer in packages:
        records = layer.dpkg.get("records", {})
        for path in records.get(dpkg_records.STATOVERRIDES, {}):
            found.setdefault(_path(path), {})[layer.title] = False
        for path, value in records.get(dpkg_records.DIVERSIONS, {}).items():
            for name in (path, value.split("\n")[0]):
                found.setdefault(_path(name), {})[layer.title] = True
    return found


def _path(name: str) -> bytes:
    return os.fsencode(dpkg_records.merged_name(name))


def strangers(facts: Sequence[Any]) -> List[int]:
    """For each package's `opam` facts a set, as bits, of those that it was never compared with: none was built over the other,
    and no package here was built over both."""
    places = {fact["package"]: number for number, fact in enumerate(facts)}
    result = [(1 << len(facts)) - 1 for _ in facts]
    for number, fact in enumerate(facts):
        together = [number, *(places[title] for title in fact.get("below", ()) if title in places)]
        bits = sum(1 << place for place in together)
        for place in together:
            result[place] &= ~bits
    return result


# What of an entry counts: its mode, size, content and attributes, and its owner's name.
_Key = Tuple[bytes, bytes, bytes, bytes, str]


def _key(layer: Layer, path: bytes, entry: bytes) -> _Key:
    mode, size, _, _, content, xattrs, _ = entry.split(b" ", 6)
    if content == inventory.UNREADABLE and not stat.S_ISDIR(int(mode, 8)):
        content += layer.diff_id.encode()  # nobody can say that it is the same
    return mode, size, content, xattrs, _owner(layer, path)


def _owner(layer: Layer, path: bytes) -> str:
    """USER:GROUP as the layer's description has them; "" where there is a rule. Numbers are the layer's own: two layers may
    have given one account two."""
    facts = cast("Mapping[str, Mapping[str, str]]", layer.dpkg)  # the type is not to be made each time
    user, _, group = facts.get("owners", {}).get(os.fsdecode(path), "").partition(":")
    return f"{facts.get('users', {}).get(user, user)}:{facts.get('groups', {}).get(group, group)}" if user else ""


def _overlaps(
    path: bytes,
    packages: Sequence[Layer],
    holders: Mapping[int, _Key],
    unchecked: Sequence[int],
    settled: Mapping[str, bool],
) -> List[Overlap]:
    """At most one for each layer but the lowest: with the nearest below it. settled: see `_settled`."""
    result = []
    numbers = sorted(holders)
    for place, upper in enumerate(numbers):
        for lower in reversed(numbers[:place]):
            if unchecked[upper] >> lower & 1 and holders[upper] != holders[lower]:
                titles = packages[lower].title, packages[upper].title
                diverted = [settled[title] for title in titles if title in settled]
                # An override says mode and owner, which are the key's first and last.
                if not any(diverted) and not (diverted and holders[lower][1:-1] == holders[upper][1:-1]):
                    result.append(Overlap(path, titles, _texts(holders[lower], holders[upper])))
                break
    return result


def _texts(lower: _Key, upper: _Key) -> Tuple[str, str]:
    one, other = _say(lower), _say(upper)
    if one != other:
        return one, other
    if lower[2] != upper[2]:
        return f"{one} ({_short(lower[2])})", f"{other} ({_short(upper[2])})"
    if lower[4] != upper[4]:
        return f"{one} of {lower[4] or 'root'}", f"{other} of {upper[4] or 'root'}"
    return one, f"{other} with other attributes, or hides what it held"


def _say(key: _Key) -> str:
    mode = int(key[0], 8)
    if stat.S_ISCHR(mode) and key[1] == b"0":
        return "removes it"
    if stat.S_ISLNK(mode):
        return "has a link"
    kind = "a directory" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "a special file"
    size = f", {os.fsdecode(key[1])} bytes" if stat.S_ISREG(mode) else ""
    return f"has {kind} (mode {stat.S_IMODE(mode):o}{size})"


def _short(content: bytes) -> str:
    return f"sha256 {os.fsdecode(content[:12])}..."


def _shown(path: bytes) -> str:
    text = "/" + os.fsdecode(path)
    return text if text.isprintable() else repr(text)
