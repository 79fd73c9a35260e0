"""Fetches locked files: by content, from the first place that has it.

All goes through Pants' own downloader, so that a file is fetched once and then lies in its cache.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import Iterable

from pants.engine.download_file import URLDownloadHandler
from pants.engine.engine_aware import EngineAwareParameter, EngineAwareReturnType
from pants.engine.fs import CreateDigest, Digest, DownloadFile, FileDigest, FileEntry, NativeDownloadFile
from pants.engine.unions import UnionRule
from pants.util.docutil import bin_name

from opam_oci.downloads.credentials import place, without_password
from opam_oci.downloads.debian_mirrors import NO_MIRROR, Mirrors, find_mirrors
from opam_oci.pants_engine.calls import create_digest, download_file, download_from
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class FetchRequest(EngineAwareParameter):
    """A file by its content, and where it may be had. `owner` says in messages what needs it; `size` in bytes."""

    owner: str
    name: str
    urls: tuple[str, ...] = field(repr=False)  # they may have passwords
    sha256: str
    size: int
    # Whose lockfile names the file; "" where no lockfile does.
    resolve: str = ""
    # What to do if no place has it, as sentences for the user; "" where what holds for locked files does.
    remedy: str = ""

    def debug_hint(self) -> str:
        return f"{self.owner}: {self.name}"


@dataclass(frozen=True)
class Fetched(EngineAwareReturnType):
    """The file's digest, or why it could not be had. A failure holds for one run only."""

    file_digest: FileDigest
    error: str | None

    def cacheable(self) -> bool:
        return self.error is None


logger = logging.getLogger(__name__)

DEBIAN_SCHEME = "debian:"


class FetchError(Exception):
    """A locked file that no place gave."""


def candidates(
    urls: Iterable[str],
    *,
    sha256: str,
    archive_mirrors: Iterable[str],
    debian_mirrors: Iterable[str],
    snapshot_mirrors: Iterable[str] = (),
) -> tuple[str, ...]:
    """Where to ask for a file, in order, each place once.

    Mirrors by content come first: they were set up for this. Then Debian's archives, as they are near and built for
    downloads, then the upstream places, and last Debian's archives of the past, which are slow and always have it.
    """
    urls = tuple(urls)
    places = [f"{mirror.rstrip('/')}/sha256/{sha256[:2]}/{sha256}" for mirror in archive_mirrors]
    for url in urls:
        if url.startswith(DEBIAN_SCHEME):
            places.extend(f"{mirror.rstrip('/')}/{url[len(DEBIAN_SCHEME) :]}" for mirror in debian_mirrors)
    places.extend(url for url in urls if not url.startswith(DEBIAN_SCHEME))
    for url in urls:
        if url.startswith(DEBIAN_SCHEME):
            places.extend(f"{mirror.rstrip('/')}/{url[len(DEBIAN_SCHEME) :]}" for mirror in snapshot_mirrors)
    return tuple(dict.fromkeys(places))


def _is_wrong_content(reason: str) -> bool:
    return "Wrong digest" in reason or "larger than expected" in reason


def _plain(reason: str, request: FetchRequest) -> str:
    """The engine's words for a wrong file are about digests; say what it means. Others stay, on one line."""
    if "larger than expected" in reason:
        return f"wrong content: more than the {request.size} bytes of the lockfile"
    match = re.search(r"got Digest \{ hash: Fingerprint<([0-9a-f]+)>, size_bytes: (\d+)", reason)
    if "Wrong digest" in reason and match:
        return f"wrong content: its sha256 is {match[1]} ({match[2]} bytes)"
    return without_password(" ".join(reason.split()))


@rule
async def fetch_file(request: FetchRequest, opam: OpamSubsystem, debian: DebianSubsystem) -> Fetched:
    """Ask each candidate in turn. A wrong file is warned of and passed over: the next place may have the right one."""
    mirrors = Mirrors(())
    needs_mirror = any(url.startswith(DEBIAN_SCHEME) for url in request.urls)
    if needs_mirror:
        mirrors = await find_mirrors(**implicitly())
    expected = FileDigest(request.sha256, request.size)
    reasons: list[str] = []
    if needs_mirror and not mirrors.urls:
        reasons.append(f"{NO_MIRROR}.")
    for url in candidates(
        request.urls,
        sha256=request.sha256,
        archive_mirrors=opam.archive_mirrors,
        debian_mirrors=mirrors.urls,
        snapshot_mirrors=debian.snapshot_mirrors,
    ):
        source = place(url)
        try:
            if source.userinfo:
                # Pants says of each download what it is by its URL: in its log, on the screen and in traces.
                await download_from(NativeDownloadFile(source.url, expected, source.headers()))
            else:
                await download_file(DownloadFile(url, expected))
            return Fetched(expected, None)
        except Exception as e:  # noqa: BLE001 (the engine's own class for it is not public)
            reason = str(e)
            reasons.append(f"{without_password(url)}: {_plain(reason, request)}")
            if _is_wrong_content(reason):
                logger.warning(
                    f"{request.owner}: {without_password(url)} has a file that is not the locked {request.name} "
                    f"({_plain(reason, request)}); looking elsewhere."
                )
    return Fetched(expected, fetch_failure(request, reasons))


def fetch_failure(request: FetchRequest, reasons: Iterable[str]) -> str:
    """The message for a file that no place gave."""
    listed = "".join(f"\n  * {reason}" for reason in reasons)
    return (
        f"Cannot fetch {request.name} for {request.owner} (sha256 {request.sha256}, {request.size} bytes):{listed}\n"
        f"{_remedy(request)}"
    )


def _remedy(request: FetchRequest) -> str:
    if request.remedy:
        return request.remedy
    regenerate = "regenerate the lockfile"
    if request.resolve:
        regenerate += f" with `{bin_name()} generate-lockfiles --resolve={request.resolve}`"
    if all(url.startswith(DEBIAN_SCHEME) for url in request.urls):
        return (
            "A Debian archive keeps only the newest of each package. If this version has left it, "
            f"{regenerate}, or name an archive of the past that still has it in `[debian].snapshot_mirrors`."
        )
    return (
        "Name a place that has it in `[debian].mirrors` or `[opam].archive_mirrors`; if the file is gone everywhere, "
        f"{regenerate}."
    )


class DebianDownload(URLDownloadHandler):
    """`debian:pool/...`: a path in a Debian archive, whichever mirror has it."""

    match_scheme = "debian"


@rule
async def download_from_debian(request: DebianDownload) -> Digest:
    """A file of a Debian archive for Pants' own downloader. Raises FetchError where no mirror has it."""
    path = request.url[len(DEBIAN_SCHEME) :]
    fetched = await fetch_file(
        FetchRequest(
            owner=request.url,
            name=path.rpartition("/")[2],
            urls=(request.url,),
            sha256=request.expected_digest.fingerprint,
            size=request.expected_digest.serialized_bytes_length,
        ),
        **implicitly(),
    )
    if fetched.error is not None:
        raise FetchError(fetched.error)
    digest = await create_digest(CreateDigest([FileEntry(path.rpartition("/")[2], fetched.file_digest)]))
    return digest


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(URLDownloadHandler, DebianDownload)]
