"""Whether an entry of the store is what it was when it was made.

Its file `checked` says when, and of which directory, that was last found to be so.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Optional

from opam_sandbox.layer import inventory

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# For so long, in seconds, an entry is believed to be what it was found to be.
_BELIEVED = 3600


def is_believed(entry: Path) -> bool:
    """Whether this very directory was found to be what it was made, in this boot of the machine and within the last hour."""
    mark = _mark(entry)
    try:
        with open(f"{entry}/checked", "rb", buffering=0) as file:
            checked, _, seconds = file.read().decode().rpartition(" ")
        return bool(mark) and checked == mark and 0 <= _seconds() - int(seconds) < _BELIEVED
    except (OSError, ValueError):
        return False


def problem(entry: Path) -> Optional[str]:
    """What is wrong with an entry: "" nothing, None that there is none. Raises OSError."""
    if is_believed(entry):
        return ""
    found = compare(entry, contents=False)
    if found == "":
        note_checked(entry)
    return found


def compare(entry: Path, contents: bool) -> Optional[str]:
    """As `problem`, by the entry's inventory."""
    try:
        recorded = (entry / "inventory").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return "it has no inventory" if os.path.lexists(entry) else None
    except OSError as error:
        return f"its inventory cannot be read ({error.strerror})"
    return inventory.difference(entry / "root", recorded, contents)


def _mark(entry: Path) -> str:
    """Of this very directory, in this boot of the machine; "" where that cannot be said.

    After a power loss the boot is another, in a copy of the store the directory. A change of the top directory shows as well.
    """
    try:
        found, recorded = os.lstat(f"{entry}/root"), os.lstat(f"{entry}/inventory")
        boot = _text(_BOOT_ID)
    except OSError:
        return ""
    times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
    return f"{boot} {found.st_dev} {found.st_ino} {times} {recorded.st_size} {recorded.st_mtime_ns}"


@lru_cache(maxsize=None)
def _text(kernel_file: Path) -> str:
    """Of a file that says the same as long as this process lives. Raises OSError."""
    return kernel_file.read_text().strip()


def _seconds() -> int:
    """Since the machine has started: what people do to its clock has no say."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def note_checked(entry: Path) -> None:
    """Say that an entry was found to be whole, or has just been made."""
    mark = _mark(entry)
    try:
        if mark:
            # In place: whoever reads a part of it sees another mark, or an earlier time, and looks again.
            (entry / "checked").write_text(f"{mark} {_seconds()}")
    except OSError:
        pass  # the next one looks again
