"""The user of every image, `opam` (1000:1000), in the accounts below a root. Formats: passwd(5), group(5), shadow(5)."""

from __future__ import annotations

from pathlib import Path

from opam_sandbox.account_files import read_entries
from opam_sandbox.errors import ToolError
from opam_sandbox.sandbox import view_files

USER = "opam"
_LINES = (
    ("passwd", f"{USER}:x:1000:1000:{USER}:/home/opam:/bin/bash", 0o644),
    ("group", f"{USER}:x:1000:", 0o644),
    ("shadow", f"{USER}:*:3652:0:99999:7:::", 0o640),
)


def has_user(root: Path) -> bool:
    """Whether the accounts below `root` know the user opam."""
    return any(entry[0] == USER for entry in read_entries(root, "passwd", links=True) or ())


def add_user(root: Path) -> None:
    """Enter the user and the group `opam`, both 1000, into the accounts below `root`, unless they are there.

    Raises ToolError if somebody else has 1000.
    """
    for name, line, mode in _LINES:
        entries = read_entries(root, name, links=True) or []
        if any(entry[0] == USER for entry in entries):
            continue
        taken = [entry[0] for entry in entries if name != "shadow" and len(entry) > 2 and entry[2] == "1000"]
        if taken:
            raise ToolError(f"the base's /etc/{name} gives 1000, which is opam's, to {taken[0]!r}")
        text = view_files.read_text(root, f"etc/{name}") or ""
        content = (text + line + "\n").encode("utf-8", "surrogateescape")
        if text:
            view_files.overwrite(root, f"etc/{name}", content, mode)
        else:
            view_files.write(root, f"etc/{name}", content, mode)
