"""Looks a process up in the caches, without running it.

Pants has no question for that. But it sets a variable for a process that really runs, if the process names one, and leaves
its name out of the cache's key: so the tool, where it finds the variable, ends at once, with a status that no cache keeps.
"""

from __future__ import annotations

import dataclasses

from pants.engine.process import FallibleProcessResult, Process
from pants.util.logging import LogLevel

from opam_oci.pants_engine.rules import implicitly
from opam_oci.sandbox.on_demand import OnDemandRequest, run_on_demand

# The tool knows it as `opam_sandbox.cli.ONLY_LOOK`. A remote worker does not set it, and runs the process.
ONLY_LOOK = "OPAM_OCI_ONLY_LOOK"


async def look_up(process: Process) -> FallibleProcessResult | None:
    """The result of a process of the tool that succeeded somewhere; None where no cache has one. Fetches nothing."""
    asked = dataclasses.replace(
        process,
        execution_slot_variable=ONLY_LOOK,
        description=f"Look for: {process.description}",
        level=LogLevel.DEBUG,
    )
    found = await run_on_demand(OnDemandRequest(asked, (), only_try=True), **implicitly())
    return found.result if found.result is not None and found.result.exit_code == 0 else None
