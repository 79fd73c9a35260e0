"""Reads files of digests."""

from __future__ import annotations

from pants.engine.fs import Digest, DigestSubset, FileEntry, PathGlobs

from opam_oci.pants_engine.calls import digest_subset_to_digest, get_digest_contents, get_digest_entries


async def read_files(digest: Digest, *globs: str) -> dict[str, bytes]:
    """The contents of a digest's files that the globs match, by path. None of them need be there."""
    subset = await digest_subset_to_digest(DigestSubset(digest, PathGlobs(globs)))
    return {file.path: file.content for file in await get_digest_contents(subset)}


async def file_entries(digest: Digest, below: str = "") -> dict[str, FileEntry]:
    """The files of a digest whose paths begin with `below`, by path, with their sha256 and size."""
    entries = await get_digest_entries(digest)
    return {e.path: e for e in entries if isinstance(e, FileEntry) and e.path.startswith(below)}
