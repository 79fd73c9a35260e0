"""Images below dist/ share their blobs' files: what several layouts hold there is one file with several names.

The `package` goal writes every image whole, as a copy of its own. When it has ended, equal blobs are made hard links of the one
that was written last. On most file systems the copies are gone before they have reached the disk.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from pants.base.build_environment import get_buildroot
from pants.core.util_rules.distdir import DistDir
from pants.engine.streaming_workunit_handler import (
    StreamingWorkunitContext,
    WorkunitsCallbackFactory,
    WorkunitsCallbackFactoryRequest,
)
from pants.engine.unions import UnionRule

from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.run_end.callback import AtRunEnd
from opam_oci.subsystems.oci_dist import OciDistSubsystem

logger = logging.getLogger(__name__)

_BLOB = re.compile(r"[0-9a-f]{64}")


def _blobs(dist: Path) -> Iterator[Path]:
    """The files `blobs/sha256/<hex>` of all layouts below a directory."""
    for directory, names, _ in os.walk(dist):
        names.sort()
        if "blobs" not in names:
            continue
        names.remove("blobs")
        below = Path(directory, "blobs", "sha256")
        if below.is_dir() and not below.is_symlink():
            yield from (below / name for name in sorted(os.listdir(below)) if _BLOB.fullmatch(name))


def link_equal_blobs(dist: Path, since: int) -> int:
    """Make blobs hard links of the one of the same name and size that was written last. Returns the bytes that this saves.

    since: nanoseconds of the epoch; what was written before is not trusted to be what its name, a sha256, says, and nothing
    is made a link of it. Raises OSError; whatever happens, every name always leads to a whole blob.
    """
    same: dict[tuple[str, int, int, int], list[tuple[int, int, Path]]] = {}
    for path in _blobs(dist):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            key = (path.name, status.st_size, status.st_dev, stat.S_IMODE(status.st_mode))
            same.setdefault(key, []).append((status.st_ctime_ns, status.st_ino, path))
    saved = 0
    for (_, size, _, _), found in sorted(same.items()):
        written, newest, source = max(found)
        if written < since:
            continue
        replaced = set()
        for _, inode, path in found:
            if inode == newest:
                continue
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            os.link(source, temporary)
            try:
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)
                raise
            replaced.add(inode)
        saved += size * len(replaced)
    return saved


class BlobLinker(AtRunEnd):
    """Links blobs when a run of `package` has ended."""

    def __init__(self, dist: Path) -> None:
        self._dist = dist
        self._start = time.time_ns()

    def ended(self, context: StreamingWorkunitContext) -> None:
        """Link the equal blobs of what was written below dist/."""
        if "package" not in context.run_tracker.goals:
            return
        try:
            link_equal_blobs(self._dist, self._start)
        except OSError as e:
            # Such as a file system without hard links: everything is there, only more than once.
            logger.debug(f"Equal blobs below {self._dist} remain files of their own: {e}")


@dataclass(frozen=True)
class BlobLinkerRequest:
    """Asks for the callback that links equal blobs."""


@rule
async def construct_blob_linker(
    _: BlobLinkerRequest, subsystem: OciDistSubsystem, dist_dir: DistDir
) -> WorkunitsCallbackFactory:
    """The callback that links blobs, where `[oci-dist].link_blobs` is set."""
    dist = Path(get_buildroot(), dist_dir.relpath)
    return WorkunitsCallbackFactory(lambda: BlobLinker(dist) if subsystem.link_blobs else None)


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(WorkunitsCallbackFactoryRequest, BlobLinkerRequest)]
