"""Runs a process whose locked inputs are fetched only when it really runs.

A lockfile says the sha256 and size of every file, and that is all that a process's cache key needs. So the process is
asked for before anything is downloaded: where a cache, local or remote, has its result, its sources never come here.
"""

from __future__ import annotations

from dataclasses import dataclass

from pants.engine.engine_aware import EngineAwareReturnType
from pants.engine.process import FallibleProcessResult, Process

from opam_oci.downloads.fetch import FetchRequest, fetch_file
from opam_oci.pants_engine.calls import run_process
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.sandbox.warnings import pass_on_warnings

_MISSING = (
    "Missing digest",
    "Was not present in the local store",
    "Was not present in either the local or remote store",
)


@dataclass(frozen=True)
class OnDemandRequest:
    """A process, and those of its input files that are to be fetched if no cache has its result.

    only_try: fetch nothing, and give no result where that would be needed.
    """

    process: Process
    files: tuple[FetchRequest, ...]
    only_try: bool = False


@dataclass(frozen=True)
class OnDemandProcess(EngineAwareReturnType):
    """The process's result; or none, and why which files could not be had."""

    result: FallibleProcessResult | None
    errors: tuple[str, ...]

    def cacheable(self) -> bool:
        # A daemon asks again in the next run: somebody may have made it meanwhile.
        return self.result is not None


def lacks_input(error: Exception) -> bool:
    """Whether the engine could not run a process because one of its input files is in no store.

    The engine's class for it is not public. Most versions begin their text with "Missing digest"; 2.30 and 2.31, and any
    version when its sandboxer prepares the process, pass on the store's own words alone.
    """
    return any(words in str(error) for words in _MISSING)


@rule
async def run_on_demand(request: OnDemandRequest) -> OnDemandProcess:
    """Ask for the process; if it cannot run for want of inputs, fetch them and ask again (unless only asked to try)."""
    try:
        result = await run_process(request.process)
        pass_on_warnings(result, request.process.description)
        return OnDemandProcess(result, ())
    except Exception as e:  # noqa: BLE001 (the engine's own class for it is not public)
        if not lacks_input(e):
            raise
    if request.only_try:
        return OnDemandProcess(None, ())
    fetched = await concurrently(fetch_file(file, **implicitly()) for file in request.files)
    errors = tuple(f.error for f in fetched if f.error is not None)
    if errors:
        return OnDemandProcess(None, errors)
    again = await run_process(request.process)
    pass_on_warnings(again, request.process.description)
    return OnDemandProcess(again, ())


def rules() -> list[object]:
    return [*collect_rules()]
