"""`--opam-trace-file`: where a run's time went, as a trace that Chrome's tracing page and Perfetto show.

The format is the "JSON object format" of the Trace Event Format: complete events ("ph": "X") with times in microseconds.
Spans are laid into as few lanes as show them side by side; a lane of the kind `process` is a slot that Pants gave away.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

from pants.base.build_environment import get_buildroot
from pants.engine.internals.scheduler import Workunit
from pants.engine.streaming_workunit_handler import (
    StreamingWorkunitContext,
    WorkunitsCallbackFactory,
    WorkunitsCallbackFactoryRequest,
)
from pants.engine.unions import UnionRule

from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.run_end.callback import AtRunEnd
from opam_oci.subsystems.opam_trace import TraceSubsystem

logger = logging.getLogger(__name__)

# The engine's names of the work that takes time -> what kind of lane it is shown in.
KINDS = {
    "run_local_process": "process",
    "run_execute_request": "remote process",
    "download_file": "download",
    "local_cache_read": "local cache",
    "check_action_cache": "remote cache",
    "eager_fetch_action_cache": "fetch of results",
    "remote_cache_write": "remote cache write",
}


@dataclass(frozen=True)
class Span:
    """One piece of work: what it is called, and when it ran (seconds of the epoch; seconds)."""

    kind: str
    name: str
    start: float
    duration: float


def spans(workunits: Iterable[Workunit]) -> list[Span]:
    """The spans among completed workunits."""
    found = []
    for workunit in workunits:
        kind = KINDS.get(workunit["name"])
        if kind is None or "duration_secs" not in workunit:
            continue
        found.append(
            Span(
                kind=kind,
                name=workunit.get("description") or workunit["name"],
                start=workunit["start_secs"] + workunit["start_nanos"] / 1e9,
                duration=workunit["duration_secs"] + workunit["duration_nanos"] / 1e9,
            )
        )
    return found


def trace(found: Iterable[Span]) -> Mapping[str, Any]:
    """The trace: one lane ("tid") per span that runs beside another of its kind."""
    ordered = sorted(found, key=lambda span: (span.start, span.kind, span.name))
    origin = ordered[0].start if ordered else 0.0
    lanes: dict[str, list[float]] = {}  # when each lane of a kind is free again
    placed: list[tuple[Span, int]] = []
    for span in ordered:
        ends = lanes.setdefault(span.kind, [])
        lane = next((number for number, end in enumerate(ends) if end <= span.start), len(ends))
        ends[lane : lane + 1] = [span.start + span.duration]
        placed.append((span, lane))
    numbers: dict[tuple[str, int], int] = {}
    events: list[dict[str, Any]] = []
    for kind in sorted(lanes, key=lambda kind: list(KINDS.values()).index(kind)):
        for lane in range(len(lanes[kind])):
            numbers[kind, lane] = len(numbers) + 1
            name = f"{kind} {lane + 1}" if len(lanes[kind]) > 1 else kind
            events.append({"ph": "M", "name": "thread_name", "pid": 1, "tid": len(numbers), "args": {"name": name}})
    for span, lane in placed:
        events.append(
            {
                "ph": "X",
                "name": span.name,
                "cat": span.kind,
                "pid": 1,
                "tid": numbers[span.kind, lane],
                "ts": round((span.start - origin) * 1e6),
                "dur": round(span.duration * 1e6),
            }
        )
    return {"displayTimeUnit": "ms", "traceEvents": events}


class TraceWriter(AtRunEnd):
    """Collects a run's workunits and writes the trace when the run ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._spans: list[Span] = []

    def completed(self, workunits: tuple[Workunit, ...]) -> None:
        """Take in workunits that have ended."""
        self._spans += spans(workunits)

    def ended(self, context: StreamingWorkunitContext) -> None:
        """Write the file."""
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(trace(self._spans)) + "\n")
            temporary.replace(self._file)
        except OSError as e:
            logger.warning(f"The trace was not written: {e}")


@dataclass(frozen=True)
class TraceWriterRequest:
    """Asks for the callback that writes the trace."""


@rule
async def construct_trace_writer(_: TraceWriterRequest, subsystem: TraceSubsystem) -> WorkunitsCallbackFactory:
    """The callback that writes the trace."""
    file = Path(get_buildroot(), subsystem.file) if subsystem.file else None
    return WorkunitsCallbackFactory(lambda: TraceWriter(file) if file else None)


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(WorkunitsCallbackFactoryRequest, TraceWriterRequest)]
