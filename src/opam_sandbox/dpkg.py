"""dpkg's database: what a layer adds to it, and the database of several layers merged.

The files that list every package can belong to no layer. A layer's description keeps what the layer changed instead, and
the whole is put together again wherever layers are merged:

    "dpkg": {"status": {"libssl-dev:amd64": "<paragraph>"}, "triggers": ["/usr/share/mime libfoo"],
             "records": {file: {key: value}}, "replaced": {file: {key: value before}}, "gone": {file: [key]}}

The tables of `records` are those of `dpkg_records`; `triggers` is the one of paths.

Sources: dpkg(1), deb-triggers(5), Debian policy 4 (control files).
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Set

from opam_sandbox import deb822, dpkg_records
from opam_sandbox.dpkg_records import DATABASE as DATABASE
from opam_sandbox.dpkg_records import FILE_TRIGGERS, Tables
from opam_sandbox.errors import ToolError
from opam_sandbox.layer.description import DpkgFacts
from opam_sandbox.sandbox import view_files

_STATUS = f"{DATABASE}/status"
# What of a layer's facts is dpkg's. Owners of files are not: also layers without .debs have them.
_RECORDS = ("status", "triggers", "records", "replaced", "gone")
# Where two layers that do not know of one another say different things, no order makes both right.
_EXCLUSIVE = {dpkg_records.DIVERSIONS: "divert", dpkg_records.STATOVERRIDES: "override the owner or mode of"}


class Database(NamedTuple):
    """What `root` has: `status` is `name:architecture` -> paragraph."""

    status: Dict[str, str]
    tables: Tables


def read(root: Path) -> Database:
    """dpkg's database below `root`; empty if there is none."""
    return Database(read_status(root), dpkg_records.read(root))


def read_status(root: Path) -> Dict[str, str]:
    """`name:architecture` -> paragraph of <root>/var/lib/dpkg/status; empty if there is no dpkg."""
    result: Dict[str, str] = {}
    for paragraph in deb822.stanzas(view_files.read_text(root, _STATUS) or ""):
        fields = deb822.fields(paragraph)
        result[f"{fields.get('Package', '')}:{fields.get('Architecture', '')}"] = paragraph
    return result


def read_triggers(root: Path) -> List[str]:
    """The lines of <root>/var/lib/dpkg/triggers/File: which package wants to know of changes below which path."""
    return list(dpkg_records.read_table(root, FILE_TRIGGERS))


def difference(before: Database, root: Path) -> DpkgFacts:
    """What a layer's `dpkg` says: what `root` has and `before` has not, or not so, and what it lost."""
    after = read(root)
    records = dpkg_records.added(before.tables, after.tables)
    facts: DpkgFacts = {
        "status": {key: text for key, text in sorted(after.status.items()) if before.status.get(key) != text},
        "triggers": list(records.pop(FILE_TRIGGERS, {})),
    }
    replaced = {
        name: {key: before.tables[name][key] for key in records.get(name, {}) if key in before.tables.get(name, {})}
        for name in _EXCLUSIVE
    }
    gone = dpkg_records.gone(before.tables, after.tables)
    if records:
        facts["records"] = records
    if any(replaced.values()):
        facts["replaced"] = {name: table for name, table in replaced.items() if table}
    if gone:
        facts["gone"] = gone
    return facts


def merge(root: Path, additions: Iterable[DpkgFacts]) -> bool:
    """Enter what layers add into the database below `root`; returns whether there was anything to enter.

    Raises ToolError where a link is in the database's place, and where layers contradict one another.
    """
    additions = [addition for addition in additions if any(addition.get(key) for key in _RECORDS)]
    if not additions:
        return False
    status = read_status(root)
    tables: Tables = {}
    for addition in additions:
        status.update(addition.get("status", {}))
        triggers = dict.fromkeys(addition.get("triggers", []), "")
        records = {**({FILE_TRIGGERS: triggers} if triggers else {}), **addition.get("records", {})}
        gone = addition.get("gone", {})
        for name in {**records, **gone}:
            table = tables.setdefault(name, dpkg_records.read_table(root, name))
            if name in _EXCLUSIVE:
                _check(name, table, addition)
            for key in gone.get(name, ()):
                table.pop(key, None)
            unite = dpkg_records.format_of(name).unite
            for key, value in records.get(name, {}).items():
                table[key] = unite(table[key], value) if key in table else value
    _replace(root, _STATUS, "".join(f"{status[key]}\n\n" for key in sorted(status)))
    for name, table in tables.items():
        text = dpkg_records.format_of(name).print(table)
        if text != view_files.read_text(root, name):
            _replace(root, name, text)
    return True


def changed(additions: Iterable[DpkgFacts], directory: str) -> List[str]:
    """The tables in a directory (with `/` at its end) that several layers changed, by their names in there."""
    once: Set[str] = set()
    again: Set[str] = set()
    for addition in additions:
        names = {name[len(directory) :] for name in addition.get("records", {}) if name.startswith(directory)}
        again |= names & once
        once |= names
    return sorted(again)


def _check(name: str, table: Dict[str, str], addition: DpkgFacts) -> None:
    known = addition.get("replaced", {}).get(name, {})
    for path, value in addition.get("records", {}).get(name, {}).items():
        there = table.get(path, value)
        if there not in (value, known.get(path)):
            one, other = (" ".join(text.split("\n")) for text in (there, value))
            raise ToolError(
                f"the Debian packages of two layers {_EXCLUSIVE[name]} {path}, each in its own way ({one}; {other}), and "
                "neither was installed over the other: they cannot be in one image. Let one of the opam packages depend on "
                "the other, or put them into different images"
            )


def _replace(root: Path, name: str, text: str) -> None:
    view_files.write(root, name, text.encode("utf-8", "surrogateescape"))
