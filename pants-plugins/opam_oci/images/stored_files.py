"""Whether Pants' store still has what was put into it, asked before an image is written to dist/.

Pants keeps files by their sha256, but compares nothing when it gives them out: what a power loss or a failing disk made of a blob
would be in the image, and Pants would end with 0. Large files are files of the store as well. They are read when this boot of the
machine uses them for the first time, when they are other files than before or have another time, and once an hour. In between
an image costs a look at each. Small ones are read once by each daemon. What is not in the store comes from a remote one, and that
Pants does compare.
"""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pants.engine.fs import CreateDigest, Digest, FileEntry
from pants.option.global_options import GlobalOptions

from opam_oci.pants_engine.calls import create_digest, get_digest_contents
from opam_oci.pants_engine.digests import DAMAGED_STORE, DamagedStoreError, file_entries
from opam_oci.pants_engine.rules import collect_rules, implicitly, uncacheable_rule

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# For so long, in seconds, a file is believed to be what it was found to be.
_BELIEVED = 3600
# Bytes from which on Pants has a file of its own for a file.
_LARGE = 512 * 1024


@dataclass(frozen=True)
class StoredFilesRequest:
    """Asks whether the files of `digest` are what their digests say; `name` is what they are of, for messages."""

    digest: Digest
    name: str


@dataclass(frozen=True)
class StoredFiles:
    """They are."""


def problem_of_file(store: Path, marks: Path, sha256: str) -> str:
    """What is wrong with a large file in Pants' store (`local_store_dir`); "" for nothing, or where the file is not there.

    marks: a directory for notes of when a file was last found right. Raises OSError for a file that cannot be read.
    """
    path = store / "immutable" / "files" / sha256[:2] / sha256
    try:
        with open(path, "rb") as stored:
            found = os.fstat(stored.fileno())
            mark = f"{_BOOT_ID.read_text().strip()} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
            if _is_believed(marks / sha256, mark):
                return ""
            digest = hashlib.sha256()
            for chunk in iter(lambda: stored.read(1 << 20), b""):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    if digest.hexdigest() != sha256:
        return f"sha256:{sha256} is damaged in Pants' store ({path}): its sha256 is {digest.hexdigest()} now"
    marks.mkdir(parents=True, exist_ok=True)
    # In place: whoever reads a part of it sees another mark, or an earlier time, and looks again.
    (marks / sha256).write_text(f"{mark} {int(time.time())}")
    return ""


def _is_believed(note: Path, mark: str) -> bool:
    try:
        noted, _, seconds = note.read_text().rpartition(" ")
        return noted == mark and 0 <= time.time() - int(seconds) < _BELIEVED
    except (OSError, ValueError):
        return False


@uncacheable_rule
async def compare_stored_files(request: StoredFilesRequest, options: GlobalOptions) -> StoredFiles:
    """In each run. Raises DamagedStoreError, which names the damaged files."""
    entries = tuple((await file_entries(request.digest)).values())
    small = [entry for entry in entries if entry.file_digest.serialized_bytes_length < _LARGE]
    problems = []
    for file, entry in zip(await get_digest_contents(await create_digest(CreateDigest(_numbered(small)))), small):
        found = hashlib.sha256(file.content).hexdigest()
        if found != entry.file_digest.fingerprint:
            problems.append(f"{entry.path} is damaged: its sha256 is {found}, not {entry.file_digest.fingerprint}")
    store, marks = Path(options.local_store_dir), Path(options.pants_workdir, "opam-oci", "stored-files")
    large = sorted({entry.file_digest.fingerprint for entry in entries} - {e.file_digest.fingerprint for e in small})
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        problems += [text for text in pool.map(lambda sha256: problem_of_file(store, marks, sha256), large) if text]
    if problems:
        raise DamagedStoreError(f"{request.name} is not written: {'; '.join(problems)}. {DAMAGED_STORE}")
    return StoredFiles()


def _numbered(entries: list[FileEntry]) -> list[FileEntry]:
    """Under names that sort as the list does."""
    return [FileEntry(f"{number:09}", entry.file_digest) for number, entry in enumerate(entries)]


async def verified(digest: Digest, name: str) -> Digest:
    """The same digest, of which the store has what its files' digests say. Raises DamagedStoreError."""
    await compare_stored_files(StoredFilesRequest(digest, name), **implicitly())
    return digest


def rules() -> list[object]:
    return [*collect_rules()]
