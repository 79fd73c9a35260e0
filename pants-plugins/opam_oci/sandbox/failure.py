"""What a failed process of the sandbox tool says."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from pants.engine.process import FallibleProcessResult

from opam_oci.pants_engine.digests import read_files
from opam_oci.sandbox.foreign_json import parse_object

# Lines of a failed build's log that go into the error.
_LOG_TAIL = 60


# Pants' own words, after which it kills a process.
_TIME_OUT = "Exceeded timeout of "

# What a build that failed writes, see `opam_sandbox/building/failures`.
FAILURE = "failure.json"


class _DamagedFailure(Exception):
    """A failure.json that says nothing."""


@dataclass(frozen=True)
class BuildFailure:
    """Why a package's build failed, and how.

    kind: "build" (its own commands), "limit" (of an option), "memory" (that the machine lacks), "killed" or "other". limit:
    "time", "memory", "processes", "disk" or "". seconds: how long it took. command: what ran when a limit struck, or "". log:
    all that opam and dpkg printed.
    """

    kind: str
    message: str
    seconds: float = 0.0
    limit: str = ""
    command: str = ""
    log: str = ""

    @property
    def timed_out(self) -> bool:
        """Whether it took longer than `[opam].build_timeout`."""
        return self.limit == "time"


async def build_failure(result: FallibleProcessResult, log: str) -> BuildFailure:
    """What a failed build's own file says of it, or the tool's message where it could write none."""
    contents = await read_files(result.output_digest, FAILURE)
    message = tool_message(result)
    kind = "killed" if result.exit_code < 0 or result.exit_code > 128 else "other"
    try:
        told = parse_object(contents.get(FAILURE, b""), FAILURE, _DamagedFailure)
        kind, limit, seconds, running = told["kind"], told["limit"], told["seconds"], told["running"]
        command = running[0] if running else ""
        if all(isinstance(one, str) for one in (kind, limit, command)) and isinstance(seconds, (int, float)):
            return BuildFailure(kind, message, float(seconds), limit, command, log)
    except (_DamagedFailure, KeyError, TypeError):
        pass
    return BuildFailure(kind, message, log=log)


async def build_log(result: FallibleProcessResult) -> str:
    """What opam and dpkg printed, or "" where it did not come that far."""
    contents = await read_files(result.output_digest, "build.log")
    return contents.get("build.log", b"").decode(errors="replace")


def tool_message(result: FallibleProcessResult) -> str:
    """What the tool says of its failure."""
    said = result.stderr.decode(errors="replace").strip()
    if result.exit_code < 0 and _TIME_OUT not in said:
        # Pants says so of a process that a signal has ended, which then could say nothing itself.
        killed = f"The sandbox tool was killed by signal {-result.exit_code}"
        if result.exit_code == -signal.SIGKILL:
            killed += ", as the kernel does when memory is short"
        return f"{said}\n{killed}.".lstrip()
    return said or f"exit status {result.exit_code}, no message"


def failure_text(result: FallibleProcessResult, log: str) -> str:
    """The tool's message, and the end of the build's log where there is one."""
    lines = log.splitlines()
    title = "Its build log:"
    if len(lines) > _LOG_TAIL:
        title = f"The last {_LOG_TAIL} of {len(lines)} lines of its build log (all: --opam-show-build-logs):"
    shown = [title, *(f"  | {line}" for line in lines[-_LOG_TAIL:])] if lines else []
    return "\n".join([tool_message(result), *shown])
