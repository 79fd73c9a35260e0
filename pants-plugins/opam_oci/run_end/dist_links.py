"""Images below dist/ share their blobs' files: what several layouts hold there is one file with several names.

The `package` goal writes an image whole, as a copy of its own. When it has ended, equal blobs are made hard links of the one
that was written last. On most file systems the copies are gone before they have reached the disk. Then it is recorded what was
written, so that the next run need not write it again.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
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
from pants.option.global_options import GlobalOptions

from opam_oci.pants_engine.rules import collect_rules, implicitly, rule, uncacheable_rule
from opam_oci.run_end.callback import AtRunEnd
from opam_oci.run_end.dist_record import DistRecord, Output
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


class Outputs:
    """What the targets of one run have `package` write. Rules that run at once may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._added: list[Output] = []

    def add(self, output: Output) -> None:
        """Note an output."""
        with self._lock:
            self._added.append(output)

    def all(self) -> tuple[Output, ...]:
        """Those noted until now."""
        with self._lock:
            return tuple(self._added)


@uncacheable_rule
async def outputs_of_this_run() -> Outputs:
    """None at first, for each run."""
    return Outputs()


def dist_record(dist_dir: DistDir, options: GlobalOptions) -> DistRecord:
    """The record of what was written below dist/."""
    return DistRecord(
        Path(get_buildroot(), dist_dir.relpath), Path(options.pants_workdir, "opam-oci", "written-to-dist.json")
    )


class BlobLinker(AtRunEnd):
    """Links blobs when a run of `package` has ended, and records what it wrote. links: whether blobs are linked."""

    def __init__(self, dist: Path, record: DistRecord, outputs: Outputs, links: bool = True) -> None:
        self._dist = dist
        self._record = record
        self._outputs = outputs
        self._links = links
        self._start = time.time_ns()

    def ended(self, context: StreamingWorkunitContext) -> None:
        """Link the equal blobs of what was written below dist/."""
        written = self._outputs.all()
        if "package" not in context.run_tracker.goals or not written:
            return
        try:
            self._record.update(written, self._start, self._link)
        except OSError as e:
            logger.debug(f"What was written to {self._dist} is not recorded, and will be written again: {e}")

    def _link(self) -> None:
        try:
            if self._links:
                link_equal_blobs(self._dist, self._start)
        except OSError as e:
            # Such as a file system without hard links: everything is there, only more than once.
            logger.debug(f"Equal blobs below {self._dist} remain files of their own: {e}")


@dataclass(frozen=True)
class BlobLinkerRequest:
    """Asks for the callback that links equal blobs."""


@rule
async def construct_blob_linker(
    _: BlobLinkerRequest, subsystem: OciDistSubsystem, dist_dir: DistDir, options: GlobalOptions
) -> WorkunitsCallbackFactory:
    """The callback that links blobs, where `[oci-dist].link_blobs` is set, and records what was written."""
    dist = Path(get_buildroot(), dist_dir.relpath)
    record, outputs = dist_record(dist_dir, options), await outputs_of_this_run(**implicitly())
    return WorkunitsCallbackFactory(lambda: BlobLinker(dist, record, outputs, subsystem.link_blobs))


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(WorkunitsCallbackFactoryRequest, BlobLinkerRequest)]
