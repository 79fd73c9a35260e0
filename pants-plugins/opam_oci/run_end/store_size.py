"""Keeps the store of unpacked layers to `[opam].store_max_size` when a run has ended."""

from __future__ import annotations

import logging
import subprocess
from dataclasses import dataclass

from pants.engine.internals.scheduler import Workunit
from pants.engine.streaming_workunit_handler import (
    StreamingWorkunitContext,
    WorkunitsCallbackFactory,
    WorkunitsCallbackFactoryRequest,
)
from pants.engine.unions import UnionRule
from pants.option.global_options import GlobalOptions

from opam_oci.host.programs import MissingProgramError, find_python
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.run_end.callback import AtRunEnd
from opam_oci.sandbox.process import store_directory
from opam_oci.sandbox.tool import MissingToolError, tool_command
from opam_oci.subsystems.opam import OpamSubsystem

logger = logging.getLogger(__name__)


class StorePruner(AtRunEnd):
    """Prunes after a run that may have put something into the store: one that ran a process here, or a container."""

    def __init__(self, store: str, max_size: str) -> None:
        self._store = store
        self._max_size = max_size
        self._has_run = False

    def completed(self, workunits: tuple[Workunit, ...]) -> None:
        """Notice processes."""
        self._has_run = self._has_run or any(workunit["name"] == "run_local_process" for workunit in workunits)

    def ended(self, context: StreamingWorkunitContext) -> None:
        """Remove what is too much, and say so."""
        if not self._has_run and "run" not in context.run_tracker.goals:
            return
        try:
            # No process of the engine's: the session has ended, and what it would keep is no result.
            argv = [find_python(), *tool_command("prune", self._store, f"--max-size={self._max_size}", "--brief")]
            env = {"LANG": "C.UTF-8"}
            done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, errors="replace")
        except (OSError, MissingProgramError, MissingToolError) as e:
            logger.warning(f"{self._store} is not kept to `[opam].store_max_size`: {e}")
            return
        if done.returncode != 0:
            error = done.stderr.strip().replace("--max-size", "[opam].store_max_size")
            logger.warning(f"{self._store} is not kept to `[opam].store_max_size`: {error}")
        elif done.stdout.strip():
            logger.info(done.stdout.strip())


@dataclass(frozen=True)
class StorePrunerRequest:
    """Asks for the callback that prunes the store."""


@rule
async def construct_store_pruner(
    _: StorePrunerRequest, opam: OpamSubsystem, options: GlobalOptions
) -> WorkunitsCallbackFactory:
    """The callback that prunes the store, where `[opam].store_max_size` is set."""
    store, max_size = store_directory(options), opam.store_max_size
    return WorkunitsCallbackFactory(lambda: StorePruner(store, max_size) if max_size else None)


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(WorkunitsCallbackFactoryRequest, StorePrunerRequest)]
