"""Tells processes of the tool what is asked of builds beside their requests: see `opam_sandbox/building/asked`.

It is a file in the named cache that all these processes have, by the number of this process, which starts them. It is
written when a run of Pants starts. A process on a remote worker, or in a container, has another named cache, and hears
nothing of it.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from pants.engine.streaming_workunit_handler import WorkunitsCallbackFactory, WorkunitsCallbackFactoryRequest
from pants.engine.unions import UnionRule
from pants.option.global_options import GlobalOptions

from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.sandbox.process import store_directory
from opam_oci.subsystems.build_limits import BadLimitError
from opam_oci.subsystems.opam import OpamSubsystem

logger = logging.getLogger(__name__)

_DIRECTORY = "asked"


def ask(store: Path, values: Mapping[str, object]) -> None:
    """Have the processes that this one starts hear it, and nothing where `values` is empty. Removes what ended processes asked.

    Raises OSError."""
    directory = store / _DIRECTORY
    if not values and not directory.is_dir():
        return
    for path in (store, directory):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in directory.iterdir():
        number = path.name.lstrip(".")
        if number.isdigit() and not Path("/proc", number).exists():
            path.unlink(missing_ok=True)
    path = directory / str(os.getpid())
    if not values:
        path.unlink(missing_ok=True)
        return
    beside = directory / f".{os.getpid()}"
    beside.write_text(json.dumps({**values, "started": _started()}))
    beside.replace(path)


def _started() -> int:
    """When this process was started, as /proc says it: another one may have its number later."""
    return int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])


@dataclass(frozen=True)
class AskRequest:
    """Asks for the callback that tells processes, at a run's start."""


@rule
async def construct_asking(_: AskRequest, options: GlobalOptions, opam: OpamSubsystem) -> WorkunitsCallbackFactory:
    """No callback: it is enough that a run starts."""
    store = Path(store_directory(options))
    try:
        limits = opam.build_limits()
    except BadLimitError:
        limits = {}  # who builds says so: other goals have nothing to do with it

    def start() -> None:
        try:
            ask(store, limits)
        except OSError as error:
            logger.warning(f"Limits of builds do not hold in this run: {error}. They are handed on in {store}.")

    return WorkunitsCallbackFactory(start)


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(WorkunitsCallbackFactoryRequest, AskRequest)]
