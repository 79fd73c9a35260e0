"""What `opam-ci` found: frozen values that reports are written from. No engine calls here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Step(Enum):
    """What is done, in this order."""

    # Whether the lockfile fits what BUILD files, opam files and options ask for.
    LOCK = "lock"
    # `opam lint` of an opam file.
    LINT = "lint"
    BUILD = "build"
    TEST = "test"
    # Says of an opam file that nothing was built with the oldest versions. What was is in the steps above.
    LOWER_BOUNDS = "lower bounds"


class Outcome(Enum):
    """How it went."""

    PASSED = "passed"
    FAILED = "failed"
    # What it stands on failed.
    NOT_RUN = "not run"
    # There is nothing to do, or nobody wants it; the message says which.
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StepResult:
    """subject: what it is about: a lockfile, an opam file, a package's address. resolve: "" where there is none. lower_bounds:
    the resolve is one of `[opam].resolves_prefer_oldest`. message: one line; log: at length. seconds: where they are known."""

    step: Step
    subject: str
    resolve: str
    outcome: Outcome
    lower_bounds: bool = False
    message: str = ""
    log: str = ""
    seconds: float | None = None

    @property
    def is_bad(self) -> bool:
        """Whether the run fails by it."""
        return self.outcome in (Outcome.FAILED, Outcome.NOT_RUN)

    @property
    def place(self) -> str:
        """The resolve, as in "oldest (lower bounds)"."""
        return f"{self.resolve} (lower bounds)" if self.lower_bounds else self.resolve


@dataclass(frozen=True)
class CiReport:
    """A whole run. directories: of the projects. steps: in order. seconds: how long it took."""

    directories: tuple[str, ...]
    steps: tuple[StepResult, ...]
    seconds: float

    @property
    def bad(self) -> list[StepResult]:
        """What fails the run, in order."""
        return [one for one in self.steps if one.is_bad]

    def counted(self) -> str:
        """As in "5 passed, 1 failed"."""
        counts = {outcome: sum(one.outcome is outcome for one in self.steps) for outcome in Outcome}
        return ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items() if count)


def in_order(steps: "set[StepResult]") -> tuple[StepResult, ...]:
    """By step, and then by what they are about."""
    order = list(Step)
    return tuple(sorted(steps, key=lambda one: (order.index(one.step), one.subject, one.resolve)))
