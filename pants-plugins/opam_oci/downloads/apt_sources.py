"""Finds the Debian archives that apt on this machine uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator

_SCHEMES = ("http://", "https://", "file:")

_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>(?:\s+\S+)*)\s*\Z")


@dataclass(frozen=True)
class AptEntry:
    """An archive as apt knows it, for binary packages."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


def apt_mirrors(etc_apt: Path) -> tuple[str, ...]:
    """The archives' URLs in apt's order, without a slash at the end, each once.

    Left out are archives for security updates only, as their pool is not the main archive's, those without the
    component main, and what Pants cannot fetch from (`cdrom:` ...). Files that cannot be read count as empty.
    """
    mirrors: dict[str, None] = {}
    for entry in _entries(etc_apt):
        if not entry.uri.startswith(_SCHEMES) or "main" not in entry.components:
            continue
        if all(suite.rstrip("/").endswith(("-security", "/updates")) for suite in entry.suites):
            continue
        mirrors.setdefault(_normal(entry.uri))
    return tuple(mirrors)


def _normal(uri: str) -> str:
    # apt also takes file:/path; the URLs of everybody else have an authority, be it empty.
    if uri.startswith("file:/") and not uri.startswith("file://"):
        uri = f"file://{uri[len('file:') :]}"
    return uri.rstrip("/")


def _entries(etc_apt: Path) -> Iterator[AptEntry]:
    yield from parse_one_line_style(_text(etc_apt / "sources.list"))
    parts = etc_apt / "sources.list.d"
    try:
        names = sorted(path.name for path in parts.iterdir())
    except OSError:
        return
    for name in names:
        if name.endswith(".list"):
            yield from parse_one_line_style(_text(parts / name))
        elif name.endswith(".sources"):
            yield from parse_deb822_style(_text(parts / name))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def parse_one_line_style(text: str) -> Iterator[AptEntry]:
    """Entries of a `.list` file: `deb [options] uri suite component...`."""
    for line in text.splitlines():
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match:
            yield AptEntry(match["uri"], (match["suite"],), tuple(match["components"].split()))


def parse_deb822_style(text: str) -> Iterator[AptEntry]:
    """Entries of a `.sources` file: stanzas with Types, URIs, Suites, Components and Enabled."""
    for fields in _stanzas(text.splitlines()):
        if fields.get("enabled", "yes").strip().lower() in ("no", "false", "0", "off", "without", "disable"):
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        suites = tuple(fields.get("suites", "").split())
        for uri in fields.get("uris", "").split():
            yield AptEntry(uri, suites, tuple(fields.get("components", "").split()))


def _stanzas(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    name = ""
    for line in (*lines, ""):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0].isspace():
            if name:
                fields[name] += f" {line.strip()}"
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
