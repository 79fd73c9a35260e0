"""Shows what a process of the sandbox tool warns of. The engine shows what failed processes say, and no others."""

from __future__ import annotations

import logging

from pants.engine.internals.session import RunId
from pants.engine.process import FallibleProcessResult

logger = logging.getLogger(__name__)

_MARK = "warning: "


def warnings_of(result: FallibleProcessResult) -> list[str]:
    """What a process that has just run warns of. A result out of a cache warns of a machine, and of a time, that are others."""
    metadata = result.metadata
    if not metadata.source(RunId(metadata.source_run_id)).value.startswith("ran"):
        return []
    lines = result.stderr.decode(errors="replace").splitlines()
    return [line[len(_MARK) :] for line in lines if line.startswith(_MARK)]


def pass_on_warnings(result: FallibleProcessResult, description: str) -> None:
    """Log the warnings of a process that succeeded. Those of one that failed are in its error."""
    if result.exit_code == 0:
        for text in warnings_of(result):
            logger.warning(f"{description}: {text}")
