"""What a failed process of the sandbox tool says."""

from __future__ import annotations

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
    return result.stderr.decode(errors="replace").strip() or f"exit status {result.exit_code}, no message"


def failure_text(result: FallibleProcessResult, log: str) -> str:
    """The tool's message, and the end of the build's log where there is one."""
    lines = log.splitlines()
    title = "Its build log:"
    if len(lines) > _LOG_TAIL:
        title = f"The last {_LOG_TAIL} of {len(lines)} lines of its build log (all: --opam-show-build-logs):"
    shown = [title, *(f"  | {line}" for line in lines[-_LOG_TAIL:])] if lines else []
    return "\n".join([tool_message(result), *shown])
