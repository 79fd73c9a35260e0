"""Brings the opam repositories that are solved against into processes."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from pants.engine.fs import (
    AddPrefix,
    CreateDigest,
    FileEntry,
    GlobMatchErrorBehavior,
    PathGlobs,
    RemovePrefix,
    Snapshot,
)

from opam_oci.engine import (
    add_prefix,
    collect_rules,
    create_digest,
    fetch,
    remove_prefix,
    rule,
    snapshot_of_globs,
)
from opam_oci.fetch import FetchError
from opam_oci.products import Fetched, FetchRequest, OpamRepository, OpamRepositoryRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class InvalidRepositoryError(Exception):
    """An entry of `[opam].repositories` that cannot be used."""


@dataclass(frozen=True)
class Archive:
    """A repository's archive; `suffix` is its kind (".tar.zst"), `size` in bytes."""

    url: str
    sha256: str
    size: int
    suffix: str


def parse_location(name: str, location: str) -> Archive | str:
    """An archive, or a directory in the build root. Raises InvalidRepositoryError."""
    origin = f"`[opam].repositories` has {name} = {location!r}"
    if not _NAME.match(name):
        raise InvalidRepositoryError(f"{origin}, which is no name for an opam repository.")
    if "://" not in location:
        path = posixpath.normpath(location)
        if path.startswith(("/", "..")) or path == ".":
            raise InvalidRepositoryError(f"{origin}; a path must be a directory below the build root.")
        return path
    url = urlsplit(location)
    fields = parse_qs(url.fragment)
    sha256, size = fields.get("sha256", [""])[0], fields.get("size", [""])[0]
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not size.isdigit():
        raise InvalidRepositoryError(
            f"{origin}, without the archive's checksum and size: add `#sha256=<64 hex digits>&size=<bytes>`."
        )
    match = re.search(r"\.(?:tar(?:\.[a-z0-9]+)?|tgz|tbz|txz|zip)\Z", url.path)
    return Archive(url._replace(fragment="").geturl(), sha256, int(size), match[0] if match else "")


@rule
async def find_opam_repository(request: OpamRepositoryRequest) -> OpamRepository:
    location = parse_location(request.name, request.location)
    if isinstance(location, str):
        path = f"repos/{request.name}"
        snapshot: Snapshot = await snapshot_of_globs(
            PathGlobs(
                [f"{location}/**"],
                glob_match_error_behavior=GlobMatchErrorBehavior.error,
                description_of_origin=f"`[opam].repositories`, {request.name}",
            )
        )
        content = await remove_prefix(RemovePrefix(snapshot.digest, location))
        return OpamRepository(request.name, path, await add_prefix(AddPrefix(content, path)))
    path = f"repos/{request.name}{location.suffix}"
    fetched: Fetched = await fetch(
        FetchRequest(
            owner="`[opam].repositories`",
            name=request.name,
            urls=(location.url,),
            sha256=location.sha256,
            size=location.size,
        )
    )
    if fetched.error is not None:
        raise FetchError(fetched.error)
    return OpamRepository(request.name, path, await create_digest(CreateDigest([FileEntry(path, fetched.file_digest)])))


def rules() -> list[object]:
    return [*collect_rules()]
