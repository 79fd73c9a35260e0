"""Looks a process up in the caches, without running it: neither here nor on a remote worker.

Pants has no question for that. But it looks at how a process is to be started only when no cache has its result: one that
could use several cores must have a place for their number in its arguments. This one has none, so Pants refuses to start it,
before it gives it to anybody: nothing is uploaded, and no worker is waited for. What it asks for is no part of the key.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pants.engine.engine_aware import EngineAwareReturnType
from pants.engine.process import FallibleProcessResult, Process
from pants.util.logging import LogLevel

from opam_oci.pants_engine.calls import run_process
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.sandbox.on_demand import lacks_input
from opam_oci.sandbox.warnings import pass_on_warnings

# Where a Pants starts such a process all the same, it sets this variable, here and on a worker; no part of the key, either.
# The tool knows it as `opam_sandbox.cli.ONLY_LOOK`, and ends at once, with a status that no cache keeps.
ONLY_LOOK = "OPAM_OCI_ONLY_LOOK"

# So begins what the engine says of a process that it refuses to start. Its class for it is not public.
_REFUSED = "set `concurrency_available="


@dataclass(frozen=True)
class LookRequest:
    """Asks for what the caches have of a process of the tool."""

    process: Process


@dataclass(frozen=True)
class Looked(EngineAwareReturnType):
    """A result with exit status 0; None where no cache has one."""

    found: FallibleProcessResult | None

    def cacheable(self) -> bool:
        # A daemon asks again in the next run: somebody may have made it meanwhile.
        return self.found is not None


def never_started(process: Process) -> Process:
    """The same process, with the same key, that Pants cannot start."""
    return dataclasses.replace(
        process,
        concurrency_available=1,
        execution_slot_variable=ONLY_LOOK,
        description=f"Look for: {process.description}",
        level=LogLevel.DEBUG,
    )


def is_refused(error: Exception) -> bool:
    """Whether the engine says that it does not start such a process: no cache has its result."""
    return _REFUSED in str(error)


@rule
async def look_in_caches(request: LookRequest) -> Looked:
    """Ask for the process; fetch and start nothing."""
    try:
        result = await run_process(never_started(request.process))
    except Exception as e:  # noqa: BLE001 (the engine's own class for it is not public)
        if not is_refused(e) and not lacks_input(e):
            raise
        return Looked(None)
    if result.exit_code != 0:
        return Looked(None)
    pass_on_warnings(result, request.process.description)
    return Looked(result)


async def look_up(process: Process) -> FallibleProcessResult | None:
    """The result of a process of the tool that succeeded somewhere; None where no cache has one. Fetches and runs nothing."""
    return (await look_in_caches(LookRequest(process), **implicitly())).found


def rules() -> list[object]:
    return [*collect_rules()]
