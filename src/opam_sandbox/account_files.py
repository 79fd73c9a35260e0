"""/etc/passwd, group, shadow and gshadow below a root: the fields of their lines, and numbers.

Formats: passwd(5), group(5), shadow(5), gshadow(5).
"""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence, Set

from opam_sandbox.sandbox import view_files

Entry = List[str]

# Where Debian's adduser and useradd allocate what daemons run as (Debian policy, 9.2.2).
SYSTEM = range(100, 1000)


def read_entries(root: Path, name: str, links: bool = False) -> Optional[List[Entry]]:
    """The fields of each line of <root>/etc/<name>; None if there is no such file, or, without `links`, only behind a link."""
    text = view_files.read_text(root, f"etc/{name}", links=links)
    return None if text is None else [line.split(":") for line in text.split("\n") if line]


def number_of(entry: Sequence[str]) -> Optional[int]:
    """An account's number in passwd and group; None where the line has none."""
    text = entry[2] if len(entry) > 2 else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else None


def free_number(wanted: str, used: Set[str]) -> Optional[str]:
    """`wanted`, or the first free one of the system's if another account has it; None if all are used."""
    return next((one for one in (wanted, *map(str, SYSTEM)) if one not in used), None)
