"""The records of dpkg and its helpers that every package is entered in, as tables: file -> key -> value.

What a layer adds to each table, and what it takes away, is in its description, and the files are written for the union of
several layers. Each kind of file is one `Format`.

    diversions, statoverride     by the path that they are about
    triggers/NAME                the packages that wait for a trigger: lines
    alternatives/NAME            a command that several packages offer: by the program's path, "" for what holds for all
    debconf's config, templates  by the name of the question. Passwords are no layer's
    ucf's hashfile, registry     by the path of the configuration file

Sources: dpkg-divert(1), dpkg-statoverride(1), deb-triggers(5), update-alternatives(1), debconf.conf(5), ucf(1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Set

from opam_sandbox import deb822
from opam_sandbox.errors import RequestError
from opam_sandbox.request import safe_name
from opam_sandbox.sandbox import view_files

DATABASE = "var/lib/dpkg"
DIVERSIONS = f"{DATABASE}/diversions"
STATOVERRIDES = f"{DATABASE}/statoverride"
FILE_TRIGGERS = f"{DATABASE}/triggers/File"
_TRIGGERS = f"{DATABASE}/triggers/"
ALTERNATIVES = f"{DATABASE}/alternatives/"

_MERGED = ("bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/")

Table = Dict[str, str]
Tables = Dict[str, Table]


class Format(NamedTuple):
    """How a file is read and written. unite(lower, upper): the value of a key for which two layers have different ones."""

    parse: Callable[[str], Table]
    print: Callable[[Mapping[str, str]], str]
    unite: Callable[[str, str], str] = lambda lower, upper: upper


def _parse_lines(text: str) -> Table:
    return {line: "" for line in text.split("\n") if line}


def _print_lines(table: Mapping[str, str]) -> str:
    return "".join(f"{line}\n" for line in table)


def _parse_diversions(text: str) -> Table:
    lines = text.split("\n")
    return {path: f"{to}\n{package}" for path, to, package in zip(lines[::3], lines[1::3], lines[2::3])}


def _print_diversions(table: Mapping[str, str]) -> str:
    return "".join(f"{path}\n{value}\n" for path, value in table.items())


def _parse_last_key(text: str) -> Table:
    """Lines that end with the path, which may have spaces in it."""
    found = {}
    for line in text.split("\n"):
        value, space, path = line.partition(" /")
        if space:
            found["/" + path] = value
    return found


def _print_last_key(table: Mapping[str, str]) -> str:
    return "".join(f"{value} {path}\n" for path, value in table.items())


def _parse_questions(text: str) -> Table:
    return {deb822.fields(stanza).get("Name", ""): stanza for stanza in deb822.stanzas(text)}


def _print_questions(table: Mapping[str, str]) -> str:
    return "".join(f"{table[name]}\n\n" for name in sorted(table))


def _parse_alternative(text: str) -> Table:
    """ "" -> `mode`, `link`; a program -> its priority, and a line `name<tab>link<tab>path` for each of its slaves."""
    lines = text.split("\n")
    end = lines.index("", 2) if "" in lines[2:] else len(lines)
    slaves = list(zip(lines[2:end:2], lines[3:end:2]))
    found = {"": "\n".join(lines[:2])}
    for at in range(end + 1, len(lines) - 1 - len(slaves), 2 + len(slaves)):
        if not lines[at]:
            break
        own = [f"{name}\t{link}\t{path}" for (name, link), path in zip(slaves, lines[at + 2 :]) if path]
        found[lines[at]] = "\n".join([lines[at + 1], *own])
    return found


def _print_alternative(table: Mapping[str, str]) -> str:
    choices = {path: value.split("\n") for path, value in sorted(table.items()) if path}
    rows = {path: {line.split("\t")[0]: line.split("\t") for line in value[1:]} for path, value in choices.items()}
    links = {name: row[1] for own in rows.values() for name, row in own.items()}
    lines = table.get("", "auto\n").split("\n")
    for name in sorted(links):
        lines += [name, links[name]]
    lines.append("")
    for path, value in choices.items():
        lines += [path, value[0], *(rows[path][name][2] if name in rows[path] else "" for name in sorted(links))]
    return "\n".join([*lines, "", ""])


def _unite_questions(lower: str, upper: str) -> str:
    """A question that packages of both layers ask belongs to all of them."""
    owners: Set[str] = set()
    for stanza in (lower, upper):
        owners.update(owner.strip() for owner in deb822.fields(stanza).get("Owners", "").split(","))
    listed = ", ".join(sorted(owners - {""}))
    return "\n".join(f"Owners: {listed}" if line.startswith("Owners:") else line for line in upper.split("\n"))


_LINES = Format(_parse_lines, _print_lines)
_LAST_KEY = Format(_parse_last_key, _print_last_key)
_QUESTIONS = Format(_parse_questions, _print_questions, _unite_questions)
_ALTERNATIVE = Format(_parse_alternative, _print_alternative)
_FORMATS = {
    DIVERSIONS: Format(_parse_diversions, _print_diversions),
    STATOVERRIDES: _LAST_KEY,
    "var/cache/debconf/config.dat": _QUESTIONS,
    "var/cache/debconf/templates.dat": _QUESTIONS,
    # Two spaces between md5 and path, a tab between package and path: the value has the rest.
    "var/lib/ucf/hashfile": _LAST_KEY,
    "var/lib/ucf/registry": Format(
        lambda text: {
            path: package for package, _, path in (line.partition("\t") for line in text.split("\n")) if path
        },
        lambda table: "".join(f"{package}\t{path}\n" for path, package in table.items()),
    ),
}
# Of dpkg's own use: what waits to be done, and a lock.
_NO_TRIGGERS = ("Lock", "Unincorp")


def format_of(name: str) -> Format:
    """How the file `name` is written. Raises RequestError where that is no table."""
    if name in _FORMATS:
        return _FORMATS[name]
    for directory, kind in ((_TRIGGERS, _LINES), (ALTERNATIVES, _ALTERNATIVE)):
        if name.startswith(directory):
            safe_name(name[len(directory) :])
            return kind
    raise RequestError(f"{name!r:.200} is no table of dpkg's")


def merged_name(path: str) -> str:
    """Where a file is, relative to the root, that a record has by its name from before /bin and its like became links."""
    name = path.lstrip("/")
    return f"usr/{name}" if name.startswith(_MERGED) else name


def names(root: Path) -> Iterator[str]:
    """The files below `root` that are such tables, as far as they are there."""
    yield from (name for name in sorted(_FORMATS) if view_files.exists(root, name))
    for directory in (_TRIGGERS, ALTERNATIVES):
        for name in view_files.names(root, directory.rstrip("/")):
            # dpkg and its tools write a new file beside the old one first.
            if name not in _NO_TRIGGERS and not name.endswith((".new", "-new", "-old", ".dpkg-tmp")):
                yield directory + name


def read(root: Path) -> Tables:
    """All tables below `root`."""
    return {name: read_table(root, name) for name in names(root)}


def read_table(root: Path, name: str) -> Table:
    """One table below `root`, empty if it is not there."""
    return format_of(name).parse(view_files.read_text(root, name) or "")


def added(before: Tables, after: Tables) -> Tables:
    """What is in `after` and was not, or not so, in `before`. A file that is new is there even if it is empty."""
    found = {}
    for name, table in sorted(after.items()):
        known = before.get(name, {})
        new = {key: value for key, value in sorted(table.items()) if known.get(key) != value}
        if new or name not in before:
            found[name] = new
    return found


def gone(before: Tables, after: Tables) -> Dict[str, List[str]]:
    """The keys of what was in `before` and is not in `after`."""
    lost = {name: sorted(set(table) - set(after.get(name, {}))) for name, table in sorted(before.items())}
    return {name: keys for name, keys in lost.items() if keys}
