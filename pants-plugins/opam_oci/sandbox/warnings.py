"""Shows what a process of the sandbox tool warns of. The engine shows what failed processes say, and no others."""

from __future__ import annotations

import logging

from pants.engine.internals.session import RunId
from pants.engine.process import FallibleProcessResult

logger = logging.getLogger(__name__)

_MARK = "warning: "
# Of what was made, whenever and wherever that was.
_OF_RESULT = "note: "


def warnings_of(result: FallibleProcessResult) -> list[str]:
    """What a process warns of: in its result, and, where it has just run, what happened. A result out of a cache would warn
    of a machine, and of a time, that are others."""
    metadata = result.metadata
    marks = [_OF_RESULT]
    if metadata.source(RunId(metadata.source_run_id)).value.startswith("ran"):
        marks.append(_MARK)
    lines = result.stderr.decode(errors="replace").splitlines()
    return [line[len(mark) :] for line in lines for mark in marks if line.startswith(mark)]


def pass_on_warnings(result: FallibleProcessResult, description: str) -> None:
    """Log the warnings of a process that succeeded. Those of one that failed are in its error."""
    if result.exit_code == 0:
        for text in warnings_of(result):
            logger.warning(f"{description}: {text}")
