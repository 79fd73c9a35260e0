"""Says at the end of a run which of the places that Pants writes to have no room left.

Pants tells of a full disk by what did not come about, such as "produced an invalid result", and at times not at all. A disk that
stays full is found when the run has ended.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from pants.base.build_environment import get_buildroot
from pants.core.util_rules.distdir import DistDir
from pants.engine.streaming_workunit_handler import (
    StreamingWorkunitContext,
    WorkunitsCallbackFactory,
    WorkunitsCallbackFactoryRequest,
)
from pants.engine.unions import UnionRule
from pants.option.global_options import GlobalOptions

from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.run_end.callback import AtRunEnd

logger = logging.getLogger(__name__)

# A layer takes more, in bytes; and so many files are made for one.
_ROOM, _FILES = 4 << 20, 16


@dataclass(frozen=True)
class Place:
    """A directory that Pants writes to, what it keeps there, and what moves that elsewhere."""

    directory: Path
    holds: str
    remedy: str


def full(places: tuple[Place, ...]) -> list[str]:
    """One sentence or two for each disk that has no room, with all the places that are on it."""
    found: dict[int, tuple[str, list[Place]]] = {}
    for place in places:
        # What is not there yet lies where the nearest directory above it does.
        directory = next((path for path in (place.directory, *place.directory.parents) if path.is_dir()), Path("/"))
        try:
            device, status = directory.stat().st_dev, os.statvfs(directory)
        except OSError:
            continue
        left = status.f_bavail * status.f_frsize
        if left < _ROOM:
            words = f"{left:,} bytes are left"
        elif status.f_files and status.f_favail < _FILES:
            words = f"{status.f_favail} more files can be made"
        else:
            continue
        found.setdefault(device, (words, []))[1].append(place)
    sentences = []
    for words, on_disk in found.values():
        names = " and ".join(f"{place.directory} ({place.holds})" for place in on_disk)
        remedies = " or ".join(dict.fromkeys(place.remedy for place in on_disk))
        sentences.append(f"The disk of {names} is full: {words}. Make room there, or set {remedies}.")
    return sentences


class FullDisks(AtRunEnd):
    """Warns of full disks when a run has ended."""

    def __init__(self, places: tuple[Place, ...]) -> None:
        self._places = places

    def ended(self, context: StreamingWorkunitContext) -> None:
        """Warn of each."""
        for sentence in full(self._places):
            logger.warning(sentence)


@dataclass(frozen=True)
class FullDisksRequest:
    """Asks for the callback that warns of full disks."""


@rule
async def construct_full_disks(
    _: FullDisksRequest, options: GlobalOptions, dist_dir: DistDir
) -> WorkunitsCallbackFactory:
    """The callback that warns of full disks."""
    places = (
        Place(Path(options.local_store_dir), "Pants' store", "[GLOBAL].local_store_dir"),
        Place(Path(options.named_caches_dir), "Pants' named caches", "[GLOBAL].named_caches_dir"),
        Place(Path(options.local_execution_root_dir), "sandboxes", "[GLOBAL].local_execution_root_dir"),
        Place(Path(get_buildroot(), dist_dir.relpath), "what is packaged", "[GLOBAL].pants_distdir"),
    )
    return WorkunitsCallbackFactory(lambda: FullDisks(places))


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(WorkunitsCallbackFactoryRequest, FullDisksRequest)]
