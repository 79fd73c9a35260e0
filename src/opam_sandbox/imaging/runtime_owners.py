"""Owners of what a runtime image takes of a full one: the same accounts by name, which the slim base gets where it lacks them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from opam_sandbox.account_files import Entry, free_number, number_of, read_entries
from opam_sandbox.errors import ToolError
from opam_sandbox.layer import ownership
from opam_sandbox.layer.owners import Below, Owner
from opam_sandbox.sandbox import view_files

# For a file that the slim base lacks.
_MODES = {"passwd": 0o644, "group": 0o644, "shadow": 0o640, "gshadow": 0o640}


class RuntimeOwners:
    """`below`: who owns what in the full image, whose layers' directories are `lower`, topmost first. `slim`: the slim view."""

    def __init__(self, below: Below, lower: Sequence[bytes], slim: Path) -> None:
        self._below = below
        self._lower = [Path(os.fsdecode(path)) for path in lower]
        self._slim = slim
        self._known: Dict[str, Owner] = {}

    def of(self, path: str) -> Owner:
        """The owner in the slim image, which gets the accounts, of what has this name in the full one. Raises ToolError."""
        if path not in self._known:
            self._known[path] = self._find(path)
        return self._known[path]

    def _find(self, path: str) -> Owner:
        if ownership.is_opams(os.fsencode(path)):
            return self._below.of(os.fsencode(path))
        (uid, gid), user, group = self._below.recorded(path)
        return (uid if user is None else self._user(user, uid), gid if group is None else self._group(group, gid))

    def _group(self, name: str, number: int) -> int:
        lines = _lines(self._slim, "group")
        known = _number(lines, name)
        if known is not None:
            return known
        number = _free(lines, number, name)
        found = self._line("group", name) or [name, "x", "", ""]
        users = {line[0] for line in _lines(self._slim, "passwd")}
        members = [one for one in (found[3:4] or [""])[0].split(",") if one in users]
        self._append("group", [name, found[1], str(number), ",".join(members)])
        if _lines(self._slim, "gshadow"):
            self._append("gshadow", [name, "!", "", ",".join(members)])
        return number

    def _user(self, name: str, number: int) -> int:
        lines = _lines(self._slim, "passwd")
        known = _number(lines, name)
        if known is not None:
            return known
        number = _free(lines, number, name)
        found = self._line("passwd", name)
        if found is None or len(found) < 7:
            raise ToolError(
                f"the account {name!r:.80}, who owns files of the image, is in none of its layers' /etc/passwd"
            )
        group = self._name_of_group(found[3])
        gid = found[3] if group is None else str(self._group(group, int(found[3])))
        self._append("passwd", [name, found[1], str(number), gid, *found[4:]])
        self._append("shadow", self._line("shadow", name) or [name, "!", *[""] * 7])
        return number

    def _line(self, file: str, name: str) -> Optional[List[str]]:
        """An account's fields, as the topmost layer that has the account says."""
        return next((line for root in self._lower for line in _lines(root, file) if line[0] == name), None)

    def _name_of_group(self, number: str) -> Optional[str]:
        groups = (line for root in self._lower for line in _lines(root, "group"))
        return next((line[0] for line in groups if len(line) > 2 and line[2] == number and number.isdigit()), None)

    def _append(self, file: str, fields: List[str]) -> None:
        text = view_files.read_text(self._slim, f"etc/{file}", links=False)
        content = ((text or "") + ":".join(fields) + "\n").encode("utf-8", "surrogateescape")
        if text is None:
            view_files.write(self._slim, f"etc/{file}", content, _MODES[file])
        else:
            view_files.overwrite(self._slim, f"etc/{file}", content)


def _lines(root: Path, file: str) -> List[Entry]:
    return read_entries(root, file) or []


def _number(lines: Sequence[Entry], name: str) -> Optional[int]:
    return number_of(next((line for line in lines if line[0] == name and len(line) > 2), []))


def _free(lines: Sequence[Entry], number: int, name: str) -> int:
    free = free_number(str(number), {line[2] for line in lines if len(line) > 2})
    if free is None:
        raise ToolError(f"the slim base has no free number for the account {name!r:.80}, who owns files of the image")
    return int(free)
