"""A `package` that finds everything done, with pantsd.

Baseline: `./pants --version` through the same pantsd, which is the native client's bare round trip: start the client,
connect, have pantsd begin and end a run. Nothing that goes through pantsd can be faster. Both are taken in turn.
"""

from __future__ import annotations

from typing import List

from bench.figures import Row
from bench.session import Session, counters, median, timed


def run(session: Session) -> List[Row]:
    pants = session.built().pants
    address = session.example.address
    for _ in range(2):
        pants.run("package", address)
        pants.run("--version")
    ours, bare = [], []
    for _ in range(3 * session.repeat):
        ours.append(timed(lambda: pants.run("package", address)))
        bare.append(timed(lambda: pants.run("--version")))
    counted = counters(pants.run("--stats-log", "package", address).stderr)
    processes = counted.get("local_execution_requests", 0)
    details = {"samples": ours, "baseline_samples": bare, "processes_run": processes}
    subject = f"warm package, {processes} processes run"
    return [Row("warm", subject, median(ours), "./pants --version by pantsd", median(bare), details=details)]
