"""Reads Debian's control files: stanzas of `Field: value` lines. Source: Debian policy, 5.1; deb822(5)."""

from __future__ import annotations

from typing import Dict, Iterator


def stanzas(text: str) -> Iterator[str]:
    """The stanzas of a file, without the empty lines between them."""
    for stanza in text.split("\n\n"):
        stanza = stanza.strip("\n")
        if stanza:
            yield stanza


def fields(stanza: str) -> Dict[str, str]:
    """The fields of a stanza. Lines of a value after the first stand in it as they are, less the space in front."""
    found: Dict[str, str] = {}
    name = ""
    for line in stanza.split("\n"):
        if line[:1] in (" ", "\t"):
            if name:
                found[name] += "\n" + line[1:]
        elif ":" in line:
            name, value = line.split(":", 1)
            found[name] = value.strip()
    return found
