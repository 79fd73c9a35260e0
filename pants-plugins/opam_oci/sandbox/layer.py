"""A layer that a process made, and how a process failed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Iterable

from pants.engine.fs import Digest, DigestSubset, FileEntry, PathGlobs
from pants.engine.process import FallibleProcessResult

from opam_oci.pants_engine.calls import digest_subset_to_digest, get_digest_contents, get_digest_entries


@dataclass(frozen=True)
class Layer:
    """A layer directory (`layer.json` and its blob) and what stands in its layer.json.

    `diff_id` and `blob` are "sha256:..."; `size` is the blob's, in bytes.
    """

    kind: str
    name: str
    version: str
    diff_id: str
    blob: str
    size: int
    digest: Digest

    @property
    def full_name(self) -> str:
        return f"{self.name}.{self.version}" if self.version else self.name


_LAYER_OUTPUTS = ("layer.json", "build.log", "timings.json")

# Lines of a failed build's log that go into the error.
_LOG_TAIL = 60


class LayerError(Exception):
    """A base, or another layer that everything needs, could not be made."""


def blob_path(digest: str) -> str:
    """Where an OCI image layout keeps the blob `sha256:...`."""
    return f"blobs/{digest.replace(':', '/')}"


def check_blobs(blobs: Iterable[FileEntry], description: str) -> None:
    """Raise LayerError for a blob whose name is not its content's sha256, which is what the engine knows files by."""
    for blob in blobs:
        if blob.path != f"blobs/sha256/{blob.file_digest.fingerprint}":
            raise LayerError(
                f"{description}: the blob {blob.path} is corrupt, its sha256 is {blob.file_digest.fingerprint}. "
                "Something wrote into Pants' store, or the machine's memory or disk fails."
            )


async def layer_of(result: FallibleProcessResult, description: str) -> Layer:
    """The layer that a successful process made, checked: its blob is what layer.json says.

    Only layer.json and the blob are in its digest. The log and the timings differ from run to run and would change
    the cache keys of all that is built above.
    """
    digest = await digest_subset_to_digest(DigestSubset(result.output_digest, PathGlobs(["layer.json", "blobs/**"])))
    entries = await get_digest_entries(digest)
    contents = await get_digest_contents(
        await digest_subset_to_digest(DigestSubset(result.output_digest, PathGlobs(["layer.json"])))
    )
    if not contents:
        raise LayerError(f"{description}: the sandbox tool wrote no layer.json.")
    values = json.loads(contents[0].content)
    blobs = {e.path: e for e in entries if isinstance(e, FileEntry) and e.path.startswith("blobs/")}
    check_blobs(blobs.values(), description)
    if list(blobs) != [blob_path(values["digest"])]:
        raise LayerError(
            f"{description}: layer.json names {values['digest']}, but the blobs are {', '.join(blobs) or 'none'}."
        )
    return Layer(
        kind=values["kind"],
        name=values["name"],
        version=values["version"],
        diff_id=values["diff_id"],
        blob=values["digest"],
        size=values["size"],
        digest=digest,
    )


async def build_log(result: FallibleProcessResult) -> str:
    """What opam and dpkg printed, or "" where it did not come that far."""
    contents = await get_digest_contents(
        await digest_subset_to_digest(DigestSubset(result.output_digest, PathGlobs(["build.log"])))
    )
    log: bytes = contents[0].content if contents else b""
    return log.decode(errors="replace")


def failure_text(result: FallibleProcessResult, log: str, *, whole_log: bool) -> str:
    """The tool's message and the end of the build's log (all of it if `whole_log`)."""
    parts = [result.stderr.decode(errors="replace").strip() or f"exit status {result.exit_code}, no message"]
    lines = log.splitlines()
    if whole_log or len(lines) <= _LOG_TAIL:
        shown, title = lines, "Its build log:"
    else:
        shown = lines[-_LOG_TAIL:]
        title = f"The last {_LOG_TAIL} of {len(lines)} lines of its build log (all: --opam-show-build-logs):"
    if shown:
        parts.append("\n".join([title, *(f"  | {line}" for line in shown)]))
    return "\n".join(parts)
