"""The store of unpacked layers: one entry per diff_id, filled once, kept between processes.

    v3/root/              `user` in place of `root` for a user, who then owns all files; for nobody else to enter
      layers/<diff_id>/
        root/             the layer
        inventory         what `root` consisted of when it was made: see `layer.inventory`
        checked           when, and of which directory, that was last found to be so; made at any time
      tmp/ locks/ scratch/
      file-system         the device whose file system was found to keep what layers have: see `layer.store_disk`

A user is the same inside of a user namespace, where builds see it as root, and outside, as containers do: one store for both.

An entry is made beside: unpacked, its digests checked, its inventory written, all of it synced to disk. Then it is renamed into
place under a file lock, and that is synced as well. So it is whole whenever it is there, also after a power loss. What a crash
leaves in `tmp/` is swept by the next process (`sandbox.scratch`).

Disks, and what people do to directories, are not to be trusted all the same. An entry that this boot of the machine has not
used yet, that was not looked at for an hour, or that is another directory than the one looked at, is compared with its
inventory, names, modes, sizes and times, before it is used; `verify` reads all files as well. What is damaged is made again.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import sys
import time
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from opam_sandbox import machine_errors
from opam_sandbox.digests import hex_of, is_hex
from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.layer import inventory, store_disk
from opam_sandbox.layer.read_blob import LayerBlob, plain_content
from opam_sandbox.sandbox import memory_claims, syscalls
from opam_sandbox.sandbox.scratch import scratch

# A change of how layers are unpacked must not meet directories that were unpacked the old way.
FORMAT = "v3"

_HOLDS, _REMEDY = "unpacked layers", "set Pants' [GLOBAL].named_caches_dir to a directory of another file system"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# For so long, in seconds, an entry is believed to be what it was found to be.
_BELIEVED = 3600


class Store:
    """`directory`: the root of the store; it may be a symlink. rootless: the files of a user without privileges.

    Raises ToolError where it belongs to another user.
    """

    def __init__(self, directory: Path, rootless: bool) -> None:
        self.rootless = rootless
        self._entries: Dict[str, Path] = {}
        self._top = Path(os.path.realpath(directory))
        self._root = self._top / FORMAT / ("user" if rootless else "root")
        with machine_errors.at(self._root, _HOLDS, _REMEDY):
            # Layers have set-uid programs, of whatever version: nobody else is to find them there.
            for path in (self._top, self._top / FORMAT, self._root):
                _make_private(path)
            for name in ("layers", "tmp", "locks", "scratch"):
                try:
                    (self._root / name).mkdir(exist_ok=True)
                except FileExistsError:
                    raise ToolError(f"{self._root / name} is not a directory: delete {self._root}") from None

    def path(self, diff_id: str) -> Path:
        """Where the layer is, or would be."""
        return self._entry(diff_id) / "root"

    def is_beside(self, path: Path) -> bool:
        """Whether a rename leads from `path` into the store."""
        return os.stat(path).st_dev == os.stat(self._root).st_dev

    @property
    def scratch_records(self) -> Path:
        """Where the records of scratch directories are: see `sandbox.scratch`."""
        return self._root / "scratch"

    @contextmanager
    def scratch(self, path: Path, mode: int = 0o755) -> Iterator[Path]:
        """A new directory of this process: removed at the context's end, after a kill by the next process that uses the
        store. Raises OSError."""
        with scratch(self.scratch_records, path, mode) as directory:
            yield directory

    def place(self, name: str, room: int) -> Path:
        """Where a scratch directory is to be: in the current directory, or in the store where that one lies in memory, of which
        there is too little (room: 0)."""
        if room or not machine_errors.is_in_memory(Path.cwd()) or machine_errors.is_in_memory(self._root):
            return Path(name)
        return self._root / "tmp" / f"{name}-{os.urandom(8).hex()}"

    @contextmanager
    def memory(self) -> Iterator[int]:
        """The bytes of memory that scratch files of this process may take as long as the context, 0 for none: what the machine
        has, without what other builds with this store have claimed. Raises OSError."""
        with memory_claims.claimed(self._root / "memory") as room:
            yield room

    def has(self, diff_id: str) -> bool:
        """Whether the layer is there, and whole as far as that was looked at within the last hour."""
        return _is_believed(self._entry(diff_id))

    def other_formats(self) -> List[Path]:
        """Directories of layers as other versions of this program have unpacked them."""
        known = (name for name in os.listdir(self._top) if re.fullmatch(r"v[0-9]+", name) and name != FORMAT)
        return [self._top / name for name in sorted(known)]

    def get(self, layer: LayerBlob) -> Path:
        """The layer's unpacked directory; unpacks its blob first if it is not there or damaged. Raises ToolError for a damaged
        blob."""
        entry = self._entry(layer.diff_id)
        if _problem(entry) == "":
            return entry / "root"

        from opam_sandbox.layer.unpack import unpack  # most layers are there

        def fill(target: Path) -> None:
            with plain_content(layer) as content:
                unpack(content, target, self.rootless, layer.title)

        return self.put(layer.diff_id, fill, layer.title)

    def put(self, diff_id: str, fill: Callable[[Path], None], title: str = "a layer") -> Path:
        """Have `fill` make the layer's directory unless it is there; only a whole one is ever seen. `title` names it when it is
        damaged, and made again."""
        entry = self._entry(diff_id)
        with self._locked(entry.name):
            problem = _problem(entry)
            if problem == "":
                return entry / "root"
            if problem is not None:
                print(f"warning: {title} is damaged in the store: {problem}; it is made again", file=sys.stderr)
            self._discard(entry)
            with machine_errors.at(self._root, _HOLDS, _REMEDY):
                self._make(entry, fill)
            _note_checked(entry)
        return entry / "root"

    def _make(self, entry: Path, fill: Callable[[Path], None]) -> None:
        store_disk.check(self._root, self.rootless)
        with self._temporary(entry.name) as directory, machine_errors.at(self._root, _HOLDS, _REMEDY):
            root = directory / "root"
            root.mkdir()
            os.chmod(root, 0o755)  # whatever the umask is
            with store_disk.explained(directory):
                fill(root)
            (directory / "inventory").write_bytes(inventory.record(root, owners=not self.rootless))
            # Without it, files of a layer may be empty after a power loss, though the layer has its name.
            syscalls.sync_file_system(directory)
            os.rename(directory, entry)
        _sync_directory(entry.parent)

    def discard(self, diff_id: str) -> None:
        """Remove the layer, if it is there: who wants it next makes it again."""
        entry = self._entry(diff_id)
        with self._locked(entry.name):
            self._discard(entry)

    def verify(self) -> Iterator[Tuple[str, str]]:
        """Compare all layers with what they were when they were made, every byte: (diff_id in hex, what is wrong or "") for
        each. Damaged ones are removed: who wants them next makes them again. Raises OSError."""
        for name in sorted(os.listdir(self._root / "layers")):
            entry = self._root / "layers" / name  # whatever it is called
            with self._locked(name):
                problem = _compare(entry, contents=True)
                if problem is None:
                    continue  # removed since
                if problem:
                    self._discard(entry)
            yield name, problem

    def _entry(self, diff_id: str) -> Path:
        found = self._entries.get(diff_id)
        if found is None:
            # Of an image that somebody else made, too: nothing but digits becomes a path.
            name = diff_id if is_hex(diff_id) else hex_of(diff_id, "a layer's diff_id")
            found = self._entries[diff_id] = self._root / "layers" / name
        return found

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        # flock(2) goes with its process, however that ends: a lock file without an owner locks nothing. Such files stay, as
        # one that were removed could be held by one process, while another locks its successor.
        path = self._root / "locks" / f"{name}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with machine_errors.at(self._root, _HOLDS, _REMEDY):
            try:
                held = os.open(path, flags, 0o600)
            except IsADirectoryError:
                remove_tree(path)  # a repair of the file system has given the name to something else
                held = os.open(path, flags, 0o600)
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX)
            except OSError as error:
                raise ToolError(store_disk.no_locks(path, error)) from None
            yield
        finally:
            os.close(held)

    def _discard(self, entry: Path) -> None:
        if os.path.lexists(entry):
            # In one step, and into what is swept if this process is killed.
            with self._temporary(entry.name) as directory:
                os.rename(entry, directory / "damaged")
                # Before its blocks are others': without a journal, a power loss could bring the name back with their content.
                _sync_directory(entry.parent)

    @contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        path = self._root / "tmp" / name
        try:
            remove_tree(path)  # of a process whose record a power loss took
        except OSError:
            path = path.with_name(f"{name}.{os.urandom(8).hex()}")  # a disk that fails may keep it for ever
        with self.scratch(path, mode=0o700) as directory:
            yield directory


def _make_private(path: Path) -> None:
    """Have the directory, for this user alone. Raises ToolError for one of another user."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ToolError(
            f"the store of unpacked layers, {path}, is not a directory of this user (it belongs to user {found.st_uid}). Each "
            "user needs a store: remove it, or set Pants' [GLOBAL].named_caches_dir to a directory of this user."
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_believed(entry: Path) -> bool:
    mark = _mark(entry)
    try:
        with open(f"{entry}/checked", "rb", buffering=0) as file:
            checked, _, seconds = file.read().decode().rpartition(" ")
        return bool(mark) and checked == mark and 0 <= _seconds() - int(seconds) < _BELIEVED
    except (OSError, ValueError):
        return False


def _problem(entry: Path) -> Optional[str]:
    """What is wrong with an entry: "" nothing, None that there is none."""
    if _is_believed(entry):
        return ""
    problem = _compare(entry, contents=False)
    if problem == "":
        _note_checked(entry)
    return problem


def _compare(entry: Path, contents: bool) -> Optional[str]:
    """As `_problem`, by the entry's inventory."""
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


def _note_checked(entry: Path) -> None:
    mark = _mark(entry)
    try:
        if mark:
            # In place: whoever reads a part of it sees another mark, or an earlier time, and looks again.
            (entry / "checked").write_text(f"{mark} {_seconds()}")
    except OSError:
        pass  # the next one looks again
