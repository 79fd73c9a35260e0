"""A layout directory that many processes, on many machines, write to at once.

One lock, and one rule: whenever nobody holds the lock, every blob of every entry of index.json is in place.

- A writer first puts what the layout lacks into a staging directory of its own, without the lock: hard link or copy, sha256
  compared, synced to disk. Then, under the lock, it renames those blobs into place, looks once more that all the others are
  (a collection may have come in between: then it starts over), and replaces index.json by a rename.
- A collection holds the lock from reading index.json to deleting the last blob. What it deletes is named by no entry, and no
  writer counts on a blob that it does not look for under the lock.
- A staging directory is held by a lock file of its own, taken and looked at under the layout's lock only: one that is free
  belongs to a dead process and is swept by the next writer or collection.

So a process may be killed anywhere. Blobs that it renamed and did not name in index.json are what the next collection
deletes. Assumed of the file system: flock(2) that reaches all machines (NFS since Linux 2.6.12 with lockd or NFSv4; local
file systems), renames that replace atomically, and files that are seen by all once they were renamed and are opened anew.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

from filelock import FileLock, Timeout

from opam_sandbox import machine_errors
from opam_sandbox.errors import ToolError
from opam_sandbox.oci import layout as oci
from opam_sandbox.oci import layout_files, stage_blob
from opam_sandbox.oci.spec import INDEX_FILE, LAYOUT, LAYOUT_FILE, REF_NAME

_OWN = ".opam-oci"
_HOLDS, _REMEDY = "images", "set the layout to a directory of another file system"
# Seconds before a waiting process says that it waits.
_PATIENCE = 5.0
_POLL = 0.01
# A collection that comes in between again and again is somebody's mistake.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Added:
    """What came of adding an image: numbers of blobs, and the bytes of those that were not there."""

    digest: str
    names: Sequence[str]
    linked: int
    copied: int
    present: int
    bytes: int


@dataclass(frozen=True)
class Collected:
    """What a collection deleted: names of entries, number of blobs and their bytes."""

    names: Sequence[str]
    blobs: int
    bytes: int


class SharedLayout:
    """`directory`: made if it is not there; its mode (group-writable, set-group-id) is that of all that is made in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(os.path.abspath(directory))
        self._own = self.directory / _OWN
        self._staging = self._own / "tmp"

    # What callers do.

    def add(self, source: Path, names: Sequence[str]) -> Added:
        """Put the one image of the layout `source` in under `names`, replacing what had them.

        Raises ToolError; then index.json is what it was, or what another writer made of it.
        """
        for name in names:
            oci.check_ref(name)
        with machine_errors.at(self.directory, _HOLDS, _REMEDY):
            return self._add(source, names)

    def _add(self, source: Path, names: Sequence[str]) -> Added:
        image, referrers = oci.image_and_referrers(source)
        blobs = oci.closure(source, [image, *referrers])
        self._initialize()
        linked = copied = size = 0
        with self._stage() as stage:
            for _ in range(_ATTEMPTS):
                lacking = [descriptor for descriptor in blobs.values() if not self._holds(descriptor)]
                missing = [descriptor for descriptor in lacking if not (stage / _hex(descriptor)).exists()]
                with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                    for was_linked in pool.map(lambda d: stage_blob.fetch(source, d, stage / _hex(d)), missing):
                        linked, copied = linked + was_linked, copied + (not was_linked)
                with self._locked():
                    if all((stage / _hex(d)).exists() or self._holds(d) for d in blobs.values()):
                        size = self._place(stage, blobs)
                        self._write_index(stage, image, referrers, names)
                        break
            else:
                raise ToolError(f"{self.directory}: blobs were deleted {_ATTEMPTS} times while this image was written")
        return Added(image["digest"], tuple(names), linked, copied, len(blobs) - linked - copied, size)

    def remove(self, names: Sequence[str]) -> Collected:
        """Take entries out of index.json by name, and delete what nothing refers to any more.

        Raises ToolError, with nothing changed, where a name is not there.
        """
        return self._collect(list(names))

    def collect(self) -> Collected:
        """Delete what no entry refers to."""
        return self._collect([])

    def names(self) -> Dict[str, str]:
        """The digests of the images by name."""
        entries = oci.read_index(self.directory)["manifests"]
        return {oci.ref_name(entry): entry["digest"] for entry in entries if oci.ref_name(entry)}

    # Locks and staging.

    def _file_lock(self, path: Path) -> FileLock:
        # To lock a file truncates it: that must be the layout's own, and nothing that a link there leads to.
        layout_files.size_of(self.directory, os.fspath(path.relative_to(self.directory)))
        return FileLock(path, mode=self._mode() & 0o666)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._file_lock(self._own / "lock")
        try:
            try:
                lock.acquire(timeout=_PATIENCE, poll_interval=_POLL)
            except Timeout:
                print(f"Waiting for the lock of {self.directory} ...", file=sys.stderr, flush=True)
                lock.acquire(poll_interval=_POLL)
        except OSError as error:
            raise ToolError(f"{self.directory} cannot be locked: {error}") from None
        try:
            with machine_errors.at(self.directory, _HOLDS, _REMEDY):
                yield
        except OSError as error:
            raise ToolError(f"{self.directory} cannot be written: {error}") from None
        finally:
            lock.release()

    @contextmanager
    def _stage(self) -> Iterator[Path]:
        """A directory beside the blobs, gone afterwards; one that was left by a kill is swept by others."""
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        stage, own = self._staging / name, self._file_lock(self._staging / f"{name}.lock")
        with self._locked():
            self._sweep()
            own.acquire(blocking=False)
            stage.mkdir(mode=0o700)
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            # While it is held: nobody can have taken it for a dead one's.
            (self._staging / f"{name}.lock").unlink()
            own.release()

    def _sweep(self) -> None:
        """Under the lock: delete the staging directories of dead processes."""
        for path in self._staging.glob("*.lock"):
            try:
                lock = self._file_lock(path)
                lock.acquire(blocking=False)
            except Timeout:
                continue
            except (OSError, ToolError):
                continue  # its owner has just ended, it belongs to another user, or is no file
            try:
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink(missing_ok=True)
            except OSError:
                pass
            finally:
                lock.release()

    # The layout's files.

    def _initialize(self) -> None:
        blobs = self.directory / "blobs" / "sha256"
        # A layout that came from elsewhere is not to have anything made or removed in other directories.
        layout_files.check_directories(self.directory, _OWN, f"{_OWN}/tmp", layout_files.BLOBS)
        if (self.directory / LAYOUT_FILE).exists() and self._staging.is_dir() and blobs.is_dir():
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            foreign = sorted(set(os.listdir(self.directory)) - {_OWN})
            known = {LAYOUT_FILE, INDEX_FILE, "blobs"}
            if foreign and not (self.directory / LAYOUT_FILE).exists() and not set(foreign) <= known:
                raise ToolError(
                    f"{self.directory} is not an OCI image layout (it holds {foreign[0]!r} and no {LAYOUT_FILE}): "
                    "name a directory of images, or one that is empty or not there yet."
                )
            for path in (self._own, self._staging, blobs.parent, blobs):
                self._make_directory(path)
                # Without a journal, a later file's sync says nothing of the directories above it.
                stage_blob.sync(path)
                stage_blob.sync(path.parent)
        except OSError as error:
            if machine_errors.is_of_machine(error):
                raise
            raise ToolError(f"{self.directory} cannot be written: {error}") from None
        with self._stage() as stage, self._locked():
            # oci-layout comes last: where it is, the rest is. An index that is missing beside it was lost, and an empty one
            # in its place would be the end of all blobs.
            if not (self.directory / LAYOUT_FILE).exists():
                if not os.path.lexists(self.directory / INDEX_FILE):
                    self._replace(stage, INDEX_FILE, oci.new_index([]))
                self._replace(stage, LAYOUT_FILE, LAYOUT)

    def _make_directory(self, path: Path) -> None:
        try:
            path.mkdir()
        except FileExistsError:
            return
        os.chmod(path, stat.S_IMODE(self._mode()))

    def _mode(self) -> int:
        return os.stat(self.directory).st_mode

    def _path(self, descriptor: oci.Descriptor) -> Path:
        return oci.blob_path(self.directory, descriptor["digest"])

    def _holds(self, descriptor: oci.Descriptor) -> bool:
        name = layout_files.blob_name(descriptor["digest"], str(self.directory))
        return bool(layout_files.size_of(self.directory, name) == descriptor["size"])

    def _place(self, stage: Path, blobs: Dict[str, oci.Descriptor]) -> int:
        """Rename what was staged into place unless it is there by now; returns the bytes."""
        size = 0
        for descriptor in blobs.values():
            staged = stage / _hex(descriptor)
            # One of a wrong size is no blob but damage, of somebody who does not rename: it is replaced.
            if staged.exists() and not self._holds(descriptor):
                os.rename(staged, self._path(descriptor))
                size += descriptor["size"]
        if size:
            stage_blob.sync(self.directory / "blobs" / "sha256")
        return size

    def _write_index(
        self, stage: Path, image: oci.Descriptor, referrers: Sequence[oci.Descriptor], names: Sequence[str]
    ) -> None:
        index = oci.read_index(self.directory)
        kept = [entry for entry in index["manifests"] if oci.ref_name(entry) not in names]
        known = {(oci.ref_name(entry), entry["digest"]) for entry in kept}
        added = [_named(image, name) for name in names]
        added += [_named(entry, "") for entry in referrers if ("", entry["digest"]) not in known]
        index["manifests"] = sorted(kept + added, key=lambda e: (not oci.ref_name(e), oci.ref_name(e), e["digest"]))
        self._replace(stage, INDEX_FILE, index)

    def _replace(self, stage: Path, name: str, data: Any) -> None:
        temporary = stage / name
        with open(temporary, "w", encoding="utf-8") as out:
            json.dump(data, out, indent=1, sort_keys=True, ensure_ascii=False)
            out.write("\n")
            out.flush()
            os.fchmod(out.fileno(), self._mode() & 0o666)
            os.fsync(out.fileno())
        os.rename(temporary, self.directory / name)
        stage_blob.sync(self.directory)

    def _collect(self, names: List[str]) -> Collected:
        if not (self.directory / LAYOUT_FILE).exists():
            raise ToolError(f"{self.directory} is not an OCI image layout: it has no {LAYOUT_FILE}")
        self._initialize()
        blobs = size = 0
        with self._stage() as stage, self._locked():
            index = oci.read_index(self.directory)
            entries = index["manifests"]
            unknown = sorted(set(names) - {oci.ref_name(entry) for entry in entries})
            if unknown:
                raise ToolError(f"{self.directory} has no image named {', '.join(unknown)}")
            kept = [entry for entry in entries if not oci.ref_name(entry) or oci.ref_name(entry) not in names]
            # What is about an image goes with it; about one that never was here, it stays.
            gone = {entry["digest"] for entry in entries} - {entry["digest"] for entry in kept}
            kept = [entry for entry in kept if oci.ref_name(entry) or oci.subject(self.directory, entry) not in gone]
            # Before anything changes: a manifest that cannot be read may refer to anything.
            live = {oci.blob_path(self.directory, digest) for digest in oci.closure(self.directory, kept)}
            dead = [path for path in sorted((self.directory / layout_files.BLOBS).iterdir()) if path not in live]
            for path in dead:
                if path.is_dir() and not path.is_symlink():
                    raise ToolError(f"{path} is a directory, which is not of a layout: nothing is deleted")
            if len(kept) != len(entries):
                index["manifests"] = kept
                self._replace(stage, INDEX_FILE, index)
            for path in dead:
                blobs, size = blobs + 1, size + path.lstat().st_size
                os.rename(path, stage / path.name)
            if dead:
                # Before their blocks are others': without a journal, a power loss could bring a name back with their content.
                stage_blob.sync(self.directory / "blobs" / "sha256")
        return Collected(tuple(names), blobs, size)


def _hex(descriptor: oci.Descriptor) -> str:
    return str(descriptor["digest"]).split(":", 1)[1]


def _named(entry: oci.Descriptor, name: str) -> oci.Descriptor:
    annotations = {key: value for key, value in (entry.get("annotations") or {}).items() if key != REF_NAME}
    if name:
        annotations[REF_NAME] = name
    result = {key: value for key, value in entry.items() if key != "annotations"}
    return {**result, "annotations": annotations} if annotations else result
