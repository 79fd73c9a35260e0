"""Reads Debian's control files: stanzas of `Field: value` lines. Source: Debian policy, 5.1; deb822(5)."""

from __future__ import annotations

from typing import Dict, Iterator, List


def stanzas(text: str) -> Iterator[str]:
    """The stanzas of a file, without the empty lines between them."""
    for stanza in text.split("\n\n"):
        stanza = stanza.strip("\n")
        if stanza:
            yield stanza


def fields(stanza: str) -> Dict[str, str]:
    """The fields of a stanza. Lines of a value after the first stand in it as they are, less the space in front."""
    found: Dict[str, List[str]] = {}
    lines: List[str] = []
    for line in stanza.split("\n"):
        if line[:1] in (" ", "\t"):
            lines.append(line[1:])
        elif ":" in line:
            name, value = line.split(":", 1)
            lines = found[name] = [value.strip()]
    return {name: "\n".join(lines) for name, lines in found.items()}
