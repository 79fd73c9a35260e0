"""What a failed process of the sandbox tool says."""

from __future__ import annotations

import signal

from pants.engine.process import FallibleProcessResult

from opam_oci.pants_engine.digests import read_files

# Lines of a failed build's log that go into the error.
_LOG_TAIL = 60


async def build_log(result: FallibleProcessResult) -> str:
    """What opam and dpkg printed, or "" where it did not come that far."""
    contents = await read_files(result.output_digest, "build.log")
    return contents.get("build.log", b"").decode(errors="replace")


def tool_message(result: FallibleProcessResult) -> str:
    """What the tool says of its failure."""
    said = result.stderr.decode(errors="replace").strip()
    if result.exit_code < 0:
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
