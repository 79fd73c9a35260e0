"""The logs of failed builds, which the tool keeps on this machine for some days: see `opam_sandbox/building/failures`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

_DIRECTORY = "failed"
_ENTRY = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})[0-9]{2}Z-[0-9a-f]{8}")
_LONGEST = 1 << 20


@dataclass(frozen=True)
class FailedLog:
    """time: when the build ended, in words (UTC). message: why it failed."""

    time: str
    message: str
    log: str


def last_failure(store: Path, package: str) -> FailedLog | None:
    """The last failed build of a package (`name.version`) that this machine still knows."""
    if "/" in package or package in ("", ".", ".."):
        return None
    try:
        entries = sorted(path for path in (store / _DIRECTORY / package).iterdir() if _ENTRY.fullmatch(path.name))
    except OSError:
        return None
    if not entries:
        return None
    match = _ENTRY.fullmatch(entries[-1].name)
    assert match is not None
    year, month, day, hour, minute = match.groups()
    return FailedLog(
        f"{year}-{month}-{day} {hour}:{minute} UTC", _message(entries[-1]), _text(entries[-1] / "build.log")
    )


def _message(entry: Path) -> str:
    try:
        return str(json.loads(_text(entry / "failure.json"))["message"])[:_LONGEST]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it is not known why"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
