"""What is known of a build that failed: a file for the caller, and a record in the store for who looks later.

`failure.json`, beside build.log:

    {"package": "lwt.5.6.1", "kind": "build" | "limit" | "memory" | "other", "message": "...", "seconds": 12.3,
     "limit": "time" | "memory" | "processes" | "disk" | "", "value": 1800.0, "running": ["dune build -p lwt", ...]}

kind: what the package's own commands made of it; a limit that somebody set; memory that the machine lacks; anything else.
Pants keeps no result of a process that failed. So the store has `failed/<package>/<time>-<number>/` with both files, of each
package the last few, for some days.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, List

from opam_sandbox.errors import BuildFailed, LimitReached, MemoryShort, ToolError
from opam_sandbox.files import remove_tree, write_json
from opam_sandbox.sandbox.view import LOG

FILE = "failure.json"
DIRECTORY = "failed"
# Of each package, and days.
_KEPT, _DAYS = 3, 14
# Bytes of a log that are kept: its end.
_LONGEST_LOG = 4 << 20
_ENTRY = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"
# Where this process's scratch directories are, if they are not in the store.
_SCRATCH = ("scratch", "first")
# Seconds that processes which were killed may take to end.
_PATIENCE = 5.0

Told = Callable[[Callable[[], int]], int]


def recorded(store: Path, package: str, run: Callable[[Told], int], *, kept: bool = True) -> int:
    """Have `run` build a package, by what it is given, in whatever process; returns its exit status. Raises ToolError.

    Whatever becomes of the build, a failure leaves `failure.json` here and a record in the store (kept), and no scratch files."""
    start = time.monotonic()

    def told(main: Callable[[], int]) -> int:
        try:
            return main()
        except ToolError as error:
            _tell(package, error, time.monotonic() - start)
            raise

    Path(FILE).unlink(missing_ok=True)
    try:
        status = run(told)
    except ToolError as error:
        _tell(package, error, time.monotonic() - start)
        _end(store, package, kept)
        raise
    if status != 0:
        if not Path(FILE).exists():
            _tell(package, ToolError(f"a process of the build ended with status {status}"), time.monotonic() - start)
        _end(store, package, kept)
    return status


def _tell(package: str, error: ToolError, seconds: float) -> None:
    reached = error if isinstance(error, LimitReached) else None
    kind = "other"
    for name, errors in (("limit", LimitReached), ("memory", MemoryShort), ("build", BuildFailed)):
        if isinstance(error, errors):
            kind = name
    running = reached.running if reached else []
    if reached:
        error.args = (f"opam package {package} was ended: {error}",)
        with suppress(OSError), open(LOG, "ab") as log:
            lines = [f"{error}", *(f"  it ran: {line}" for line in running)]
            log.write(("\n" + "\n".join(lines) + "\n").encode(errors="replace"))
    values = {
        "package": package,
        "kind": kind,
        "message": str(error),
        "seconds": round(seconds, 2),
        "limit": reached.limit if reached else "",
        "value": reached.value if reached else 0,
        "running": running,
    }
    with suppress(OSError):  # a full disk is what the error says already
        write_json(FILE, values)


def _end(store: Path, package: str, kept: bool) -> None:
    """Keep a record, and remove what killed processes have left."""
    # What keeps this from being written is mostly what made the build fail, and said already.
    with suppress(OSError):
        if kept:
            _keep(store / DIRECTORY, package)
    with suppress(OSError, ToolError):
        _sweep(store)


def _keep(directory: Path, package: str) -> None:
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.urandom(4).hex()}"
    place = directory / package / name
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = directory / package / f".{name}"
    beside.mkdir(mode=0o700)
    for file in (LOG, FILE):
        with suppress(FileNotFoundError), open(file, "rb") as source, open(beside / file, "wb") as copy:
            source.seek(max(0, os.fstat(source.fileno()).st_size - _LONGEST_LOG))
            copy.write(source.read())
    os.rename(beside, place)
    prune(directory)


def prune(directory: Path, days: float = _DAYS, kept: int = _KEPT) -> None:
    """Remove the records that are older, and of each package those before the last few; halves of records that a kill left."""
    oldest = time.time() - days * 86400
    for package in directory.iterdir():
        entries = _entries(package)
        for entry in entries[:-kept] if kept else entries:
            remove_tree(entry)
        for entry in package.iterdir():
            if entry.lstat().st_mtime < oldest or (
                entry.name.startswith(".") and entry.lstat().st_mtime < time.time() - 60
            ):
                remove_tree(entry)
        with suppress(OSError):
            package.rmdir()


def _entries(package: Path) -> List[Path]:
    """The records of a package, the oldest first."""
    return sorted(path for path in package.iterdir() if re.fullmatch(_ENTRY, path.name))


def _sweep(store: Path) -> None:
    from opam_sandbox.layer.store import Store
    from opam_sandbox.sandbox.namespaces import is_rootless
    from opam_sandbox.sandbox.scratch import sweep

    records = Store(store, is_rootless()).scratch_records
    until = time.monotonic() + _PATIENCE
    while True:
        sweep(records)
        if not any(os.path.lexists(name) for name in _SCRATCH) or time.monotonic() > until:
            return
        time.sleep(0.02)
