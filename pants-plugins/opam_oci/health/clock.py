"""How long a run may take."""

from __future__ import annotations

import time
from dataclasses import dataclass

from opam_oci.pants_engine.rules import collect_rules, uncacheable_rule
from opam_oci.subsystems.opam_health import OpamHealthSubsystem


@dataclass(frozen=True)
class RunClock:
    """When a run began, in seconds of the epoch and of the machine's own clock, and the seconds that it may take; None: any."""

    began: float
    since: float
    limit: int | None

    def is_over(self) -> bool:
        """Whether no more is to be started."""
        return self.limit is not None and time.monotonic() - self.since >= self.limit

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.since


@uncacheable_rule
async def clock_of_this_run(health: OpamHealthSubsystem) -> RunClock:
    """A new one for each run."""
    return RunClock(time.time(), time.monotonic(), health.time_limit)


def rules() -> list[object]:
    return [*collect_rules()]
