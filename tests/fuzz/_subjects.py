"""Finds the subjects, and runs one of them within a bound of time."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
from types import FrameType, ModuleType
from typing import Any, Callable, List, Optional

import tests.fuzz

# CPU time for one input, in seconds; inputs are at most some ten thousand bytes.
BOUND = 5.0


class RunAway(BaseException):
    """A subject that did not come to an end in time. No Exception, so that no subject takes it for an error of its own."""


class Subject:
    """A module of this package: see there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._module: ModuleType = importlib.import_module(f"{tests.fuzz.__name__}.{name}")
        self.seeds: List[bytes] = list(self._module.SEEDS)
        self.tokens: List[bytes] = list(getattr(self._module, "TOKENS", []))
        self.examples: Optional[Callable[[], Any]] = getattr(self._module, "examples", None)
        assert self.seeds, f"{name} has no seeds"

    def run(self, data: bytes, seconds: float = BOUND) -> None:
        """Raises what the subject raises, and RunAway after this CPU time. Only in the main thread."""

        def stop(number: int, frame: Optional[FrameType]) -> None:
            raise RunAway(f"{self.name} takes more than {seconds} s of CPU time for {len(data)} bytes: {data[:2000]!r}")

        before = signal.signal(signal.SIGPROF, stop)
        process = os.getpid()
        # CPU time, the system's included: other work on the machine counts for nothing.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            self._module.run(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
            assert os.getpid() == process, f"{self.name} left a child that returns"


def names() -> List[str]:
    """Of all subjects, sorted."""
    found = [module.name for module in pkgutil.iter_modules(tests.fuzz.__path__)]
    return sorted(name for name in found if not name.startswith("_"))
