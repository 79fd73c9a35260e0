"""Reads files of digests."""

from __future__ import annotations

import hashlib

from pants.engine.fs import Digest, DigestSubset, FileEntry, PathGlobs

from opam_oci.pants_engine.calls import digest_subset_to_digest, get_digest_contents, get_digest_entries

# What mends it, whichever file it was.
DAMAGED_STORE = (
    "Pants' store of files is damaged, by a power loss, a disk or memory that fails, or somebody who wrote into it. End "
    "pantsd (the pid is in `.pids/`), delete [GLOBAL].local_store_dir (`~/.cache/pants/lmdb_store`), and run Pants again."
)


class DamagedStoreError(Exception):
    """The engine's store gave something else than what was put into it."""


async def read_files(digest: Digest, *globs: str) -> dict[str, bytes]:
    """The contents of a digest's files that the globs match, by path. None of them need be there.

    Raises DamagedStoreError where a content is not what its digest says, which the engine does not look at.
    """
    subset = await digest_subset_to_digest(DigestSubset(digest, PathGlobs(globs)))
    contents = {file.path: file.content for file in await get_digest_contents(subset)}
    for path, entry in (await file_entries(subset)).items():
        found = hashlib.sha256(contents[path]).hexdigest()
        if found != entry.file_digest.fingerprint:
            raise DamagedStoreError(
                f"{path} is damaged: its sha256 is {found}, but should be {entry.file_digest.fingerprint}. {DAMAGED_STORE}"
            )
    return contents


async def file_entries(digest: Digest, below: str = "") -> dict[str, FileEntry]:
    """The files of a digest whose paths begin with `below`, by path, with their sha256 and size."""
    entries = await get_digest_entries(digest)
    return {e.path: e for e in entries if isinstance(e, FileEntry) and e.path.startswith(below)}
