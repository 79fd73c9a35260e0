"""The store of unpacked layers: one entry per diff_id, filled once, kept between processes.

    v4/root/              `user` in place of `root` for a user, who then owns all files; for nobody else to enter
      layers/<diff_id>/
        root/             the layer
        inventory         what `root` consisted of when it was made: see `layer.inventory`
        title             what it was called by who made it
        used              locked by who uses it, and when that was last: see `layer.store_use`
        checked           when, and of which directory, it was last found to be whole (`layer.store_check`); made at any time
      tmp/ locks/ scratch/
      gone/               what is to be deleted: see `layer.store_gone`
      file-system         the device whose file system was found to keep what layers have: see `layer.store_disk`

A user is the same inside of a user namespace, where builds see it as root, and outside, as containers do: one store for both.

An entry is made beside: unpacked, its digests checked, its inventory written, all of it synced to disk. Then it is renamed into
place under a file lock, and that is synced as well. So it is whole whenever it is there, also after a power loss. What a crash
leaves in `tmp/` is swept by the next process (`sandbox.scratch`).

Who gets an entry holds it as long as the process lives: nobody takes it away meanwhile, whoever prunes the store. One that was
taken away before is made again.

Disks, and what people do to directories, are not to be trusted all the same. An entry that this boot of the machine has not
used yet, that was not looked at for an hour, or that is another directory than the one looked at, is compared with its
inventory, names, modes, sizes and times, before it is used; `verify` reads all files as well. What is damaged is made again.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, ContextManager, Dict, Iterator, List, Optional, Tuple

from opam_sandbox import machine_errors
from opam_sandbox.digests import hex_of, is_hex
from opam_sandbox.errors import ToolError
from opam_sandbox.files import remove_tree
from opam_sandbox.layer import inventory, store_check, store_disk, store_gone, store_lock, store_use
from opam_sandbox.layer.read_blob import LayerBlob, plain_content
from opam_sandbox.sandbox import memory_claims, syscalls
from opam_sandbox.sandbox.scratch import scratch

# A change of how layers are unpacked must not meet directories that were unpacked the old way, nor one of how they are locked
# processes that lock the old way.
FORMAT = "v4"

_HOLDS, _REMEDY = store_lock.HOLDS, store_lock.REMEDY


class Store:
    """`directory`: the root of the store; it may be a symlink. rootless: the files of a user without privileges.

    Raises ToolError where it belongs to another user.
    """

    def __init__(self, directory: Path, rootless: bool) -> None:
        self.rootless = rootless
        self._entries: Dict[str, Path] = {}
        self._held = store_use.Held()
        self._top = Path(os.path.realpath(directory))
        self._root = self._top / FORMAT / ("user" if rootless else "root")
        with machine_errors.at(self._root, _HOLDS, _REMEDY):
            # Layers have set-uid programs, of whatever version: nobody else is to find them there.
            for path in (self._top, self._top / FORMAT, self._root):
                _make_private(path)
            for name in ("layers", "tmp", "locks", "scratch", store_gone.DIRECTORY):
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
    def top(self) -> Path:
        """The whole directory, where other things are kept beside the layers."""
        return self._top

    @property
    def own(self) -> Path:
        """This user's part: what the module says of it."""
        return self._root

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
        """Whether the layer is there, and whole as far as that was looked at within the last hour. If so, it is held."""
        return self._held.use(self._entry(diff_id), lambda entry: "" if store_check.is_believed(entry) else None) == ""

    def other_formats(self) -> List[Path]:
        """Directories of layers as other versions of this program have unpacked them."""
        known = (name for name in os.listdir(self._top) if re.fullmatch(r"v[0-9]+", name) and name != FORMAT)
        return [self._top / name for name in sorted(known)]

    def get(self, layer: LayerBlob) -> Path:
        """The layer's unpacked directory; unpacks its blob first if it is not there or damaged. It stays as long as this process
        lives. Raises ToolError for a damaged blob."""
        entry = self._entry(layer.diff_id)
        if self._held.use(entry, store_check.problem) == "":
            return entry / "root"

        from opam_sandbox.layer.unpack import unpack  # most layers are there

        def fill(target: Path) -> None:
            with plain_content(layer) as content:
                unpack(content, target, self.rootless, layer.title)

        return self.put(layer.diff_id, fill, layer.title)

    def put(self, diff_id: str, fill: Callable[[Path], None], title: str = "a layer") -> Path:
        """Have `fill` make the layer's directory unless it is there; only a whole one is ever seen. It stays as long as this
        process lives. `title` names it when it is damaged, and made again."""
        entry = self._entry(diff_id)
        with self._locked(entry.name):
            problem = self._held.use(entry, store_check.problem)
            if problem == "":
                return entry / "root"
            if problem is not None:
                print(f"warning: {title} is damaged in the store: {problem}; it is made again", file=sys.stderr)
            self._discard(entry)
            with machine_errors.at(self._root, _HOLDS, _REMEDY):
                self._make(entry, fill, title)
            store_check.note_checked(entry)
        return entry / "root"

    def _make(self, entry: Path, fill: Callable[[Path], None], title: str) -> None:
        store_disk.check(self._root, self.rootless)
        store_gone.sweep(self._root)
        with self._temporary(entry.name) as directory, machine_errors.at(self._root, _HOLDS, _REMEDY):
            root = directory / "root"
            root.mkdir()
            os.chmod(root, 0o755)  # whatever the umask is
            with store_disk.explained(directory):
                fill(root)
            (directory / "title").write_text(title, errors="backslashreplace")
            (directory / "inventory").write_bytes(inventory.record(root, owners=not self.rootless))
            held = store_use.hold(directory)  # before anybody else knows of it
            try:
                # Without it, files of a layer may be empty after a power loss, though the layer has its name.
                syscalls.sync_file_system(directory)
                os.rename(directory, entry)
            except BaseException:
                os.close(held)
                raise
            self._held.keep(entry.name, held)
        _sync_directory(entry.parent)

    def let_go(self) -> None:
        """Hold nothing any more. Only where nothing of the store is mounted."""
        self._held.let_go()

    def entries(self) -> List[Path]:
        """The directories of all layers, by name. Raises OSError."""
        return [self._root / "layers" / name for name in sorted(os.listdir(self._root / "layers"))]

    def is_used(self, entry: Path) -> bool:
        """Whether a process uses an entry. Raises ToolError, OSError."""
        try:
            held = store_use.hold_alone(entry)
        except BlockingIOError:
            return True
        if held != store_use.NOTHING:
            os.close(held)
        return False

    def take_away(self, entry: Path, last_used: float) -> Optional[Path]:
        """Take its name from an entry that nobody uses, nor has used since `last_used`: where it is then, to be deleted once
        `sync_names` was called. None, at once, if somebody does, or it is gone. Raises ToolError, OSError."""
        with self._locked(entry.name, wait=False) as lock:
            if not lock:
                return None
            try:
                held = store_use.hold_alone(entry, make=True)
            except BlockingIOError:
                return None
            try:
                if not os.path.lexists(entry) or store_use.last_used(entry) > last_used:
                    return None
                gone = store_gone.move_aside(self._root, entry)
                os.unlink(lock)  # who waits for it sees that it is no lock any more
                return gone
            finally:
                if held != store_use.NOTHING:
                    os.close(held)

    def sync_names(self) -> None:
        """Have the disk forget the names that were taken away, before the blocks are others'. Raises OSError."""
        _sync_directory(self._root / "layers")

    def discard(self, diff_id: str) -> None:
        """Remove the layer, if it is there: who wants it next makes it again. Where a process uses it, this one as well, its
        files stay until that has ended."""
        entry = self._entry(diff_id)
        with self._locked(entry.name):
            self._discard(entry)

    def verify(self) -> Iterator[Tuple[str, str]]:
        """Compare all layers with what they were when they were made, every byte: (diff_id in hex, what is wrong or "") for
        each. Damaged ones are removed: who wants them next makes them again. Raises OSError."""
        for name in sorted(os.listdir(self._root / "layers")):
            entry = self._root / "layers" / name  # whatever it is called
            with self._locked(name):
                held = store_use.hold(entry)
                try:
                    problem = store_check.compare(entry, contents=True)
                finally:
                    if held != store_use.NOTHING:
                        os.close(held)
                if problem:
                    self._discard(entry)
            if problem is not None:  # else it was removed since
                yield name, problem

    def _entry(self, diff_id: str) -> Path:
        found = self._entries.get(diff_id)
        if found is None:
            # Of an image that somebody else made, too: nothing but digits becomes a path.
            name = diff_id if is_hex(diff_id) else hex_of(diff_id, "a layer's diff_id")
            found = self._entries[diff_id] = self._root / "layers" / name
        return found

    def _locked(self, name: str, wait: bool = True) -> ContextManager[str]:
        return store_lock.locked(self._root / "locks" / f"{name}.lock", wait)

    def _discard(self, entry: Path) -> None:
        self._held.forget(entry.name)
        if os.path.lexists(entry):
            store_gone.move_aside(self._root, entry)
            # Before its blocks are others': without a journal, a power loss could bring the name back with their content.
            _sync_directory(entry.parent)
            store_gone.sweep(self._root)

    @contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        # Only with the lock of that name. A name that no other directory had before: who sweeps what a killed process left looks
        # at the inode and then removes by the path, which must not be this one's by then.
        top = self._root / "tmp"
        for old in os.listdir(top):
            if old.startswith(name):
                with suppress(OSError):  # a disk that fails may keep it for ever
                    remove_tree(top / old)  # of a process whose record a power loss took
        with self.scratch(top / f"{name}.{os.urandom(8).hex()}", mode=0o700) as directory:
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
