"""What is kept beside the layers: bytecode, what lock commands know, stores of other versions, and what nobody here knows."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from pathlib import Path
from typing import Iterator, List, Optional

from opam_sandbox.layer import store_gone
from opam_sandbox.layer.store import FORMAT, Store
from opam_sandbox.sandbox.scratch import recorded
from opam_sandbox.store.items import Item, Kind, listed, newest, on_disk

# Of `building/failures` and `building/asked`, which are other parts of the tool.
FAILED_DIRECTORY, _ASKED = "failed", "asked"
_VERSION, _LOCKING = re.compile(r"v[0-9]+"), re.compile(r"locking-v[0-9]+")

# Lock commands of earlier versions lock nothing: what was used within so many seconds stays.
_RECENT = 3600


def _move_aside(store: Store, item: Item) -> Optional[Path]:
    return store_gone.move_aside(store.own, item.path)


def _bytecode(store: Store) -> List[Item]:
    return [Item("bytecode", path.name, path, on_disk(path), newest(path)) for path in listed(store.top / "compiled")]


# -- failures -----------------------------------------------------------------


def _failed(store: Store) -> List[Item]:
    return [
        Item("failed", f"{package.name}/{path.name}", path, on_disk(path), newest(path))
        for package in listed(store.top / FAILED_DIRECTORY)
        for path in listed(package)
    ]


# -- what lock commands keep ---------------------------------------------------


def _locking(store: Store) -> List[Item]:
    return [
        _known(path, top)
        for top in _locking_tops(store)
        for path in (*listed(top / "apt"), *listed(top / "sessions"), *listed(top / "archives"))
    ]


def _locking_tops(store: Store) -> Iterator[Path]:
    """This user's part of each version; inside of a user namespace, the user has another number."""
    for path in listed(store.top):
        if _LOCKING.fullmatch(path.name):
            yield from (top for top in listed(path) if os.lstat(top).st_uid == os.geteuid())


def _known(path: Path, top: Path) -> Item:
    last_used = max(newest(path), newest(path / "snapshots"))
    lock = _alone(top / "in-use")
    in_use = lock is None or time.time() - last_used < _RECENT
    if lock is not None:
        os.close(lock)
    return Item("locking", f"{path.parent.name}/{path.name}", path, on_disk(path), last_used, in_use)


def _take_known(store: Store, item: Item) -> Optional[Path]:
    lock = _alone(item.path.parent.parent / "in-use")
    if lock is None:
        return None
    try:
        # As apt's update holds it (`locking.apt_lists`).
        update = _alone(item.path / "lock") if (item.path / "lock").exists() else -1
        if update is None:
            return None
        try:
            return store_gone.move_aside(store.own, item.path)
        finally:
            if update >= 0:
                os.close(update)
    finally:
        os.close(lock)


def _alone(path: Path) -> Optional[int]:
    """The descriptor of a file that this process has locked alone, None while somebody else holds it, or where nobody can, as on
    a read-only disk. Raises OSError."""
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


# -- other versions --------------------------------------------------------------


def _other_versions(store: Store) -> List[Item]:
    found = []
    for path in listed(store.top):
        if _VERSION.fullmatch(path.name) and path.name != FORMAT:
            entries = [entry / "checked" for kind in ("root", "user") for entry in listed(path / kind / "layers")]
            last_used = max([newest(path / "root"), newest(path / "user"), *map(newest, entries)])
            found.append(Item("versions", path.name, path, on_disk(path), last_used, _is_running(path)))
    return found


def _is_running(version: Path) -> bool:
    """Whether a process of another version has a scratch directory, as all have that build or run something."""
    records = [path for kind in ("root", "user") for path in listed(version / kind) if path.name == "scratch"]
    return any(alive for path in records if path.is_dir() for _, alive in recorded(path))


def _take_version(store: Store, item: Item) -> Optional[Path]:
    if _is_running(item.path):
        return None
    gone = store_gone.move_aside(store.own, item.path)
    if _is_running(gone):
        os.rename(gone, item.path)  # one that has begun meanwhile
        return None
    return gone


# -- the rest ----------------------------------------------------------------------

_RECORDS = ("locks", "memory", "scratch", "file-system")


def _records(store: Store) -> List[Item]:
    return [
        Item("records", path.name, path, on_disk(path), newest(path), True)
        for path in listed(store.own)
        if path.name in _RECORDS
    ] + [
        Item("records", _ASKED, path, on_disk(path), newest(path), True)
        for path in [store.top / _ASKED]
        if path.is_dir()
    ]


def _unknown(store: Store) -> List[Item]:
    known = {*_RECORDS, "layers", "tmp", store_gone.DIRECTORY}
    paths = [path for path in listed(store.own) if path.name not in known]
    paths += [path for path in listed(store.own.parent) if path != store.own]
    paths += [
        path
        for path in listed(store.top)
        if path.name not in ("compiled", "run", FAILED_DIRECTORY, _ASKED)
        and not _VERSION.fullmatch(path.name)
        and not _LOCKING.fullmatch(path.name)
    ]
    return [
        Item("unknown", os.fspath(path.relative_to(store.top)), path, on_disk(path), newest(path)) for path in paths
    ]


BYTECODE = Kind("bytecode", "this program's modules, compiled; made again in a second", _bytecode, _move_aside)
FAILED = Kind("failed", "logs of builds that failed; `opam-log` shows them", _failed, _move_aside)
LOCKING = Kind(
    "locking", "package lists of Debian's mirrors, and what is known of archives; got again", _locking, _take_known
)
VERSIONS = Kind("versions", "layers as other versions of this program unpacked them", _other_versions, _take_version)
RECORDS = Kind("records", "locks, and records of what runs", _records)
UNKNOWN = Kind("unknown", "what this program does not know; delete it by hand", _unknown)
