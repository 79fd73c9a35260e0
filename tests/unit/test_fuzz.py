"""All subjects of tests/fuzz with hypothesis. Each gets an equal part of the time, and what it is given in round N is the same
in every run. A quick machine has no more rounds than a slow one could have: what CI has never tried is looked for by
`build-support/fuzz`, not by who changes something else.

OPAM_OCI_FUZZ_SECONDS: for all subjects together. OPAM_OCI_FUZZ_ROUND: the first round, for other inputs than before.
OPAM_OCI_FUZZ_ROUNDS: the most rounds of a subject.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import _subjects
from tests.fuzz._mutations import Mutator
from tests.fuzz._subjects import RunAway, Subject

NAMES = _subjects.names()
SECONDS = float(os.environ.get("OPAM_OCI_FUZZ_SECONDS") or (120 if "CI" in os.environ else 20)) / len(NAMES)
FIRST = int(os.environ.get("OPAM_OCI_FUZZ_ROUND", "0"))
ROUNDS = int(os.environ.get("OPAM_OCI_FUZZ_ROUNDS", "60"))
EXAMPLES = 60


def inputs(subject: Subject) -> Any:
    """Changed seeds for the most part; hypothesis makes them smaller when one is a find."""
    mutator = Mutator(subject.seeds, subject.tokens)

    @st.composite
    def changed(draw: Any) -> bytes:
        return mutator.mutate(draw(st.sampled_from(subject.seeds)), random.Random(draw(st.integers(0, 1 << 60))))

    own = [subject.examples()] if subject.examples else []
    return st.one_of(changed(), changed(), *own, st.binary(max_size=300))


@pytest.mark.parametrize("name", NAMES)
def test_subject(name: str) -> None:
    end = time.monotonic() + SECONDS
    subject = Subject(name)
    for data in subject.seeds:
        subject.run(data)
    number = FIRST
    while True:

        @seed(number)
        @settings(
            deadline=None,
            database=None,
            derandomize=False,  # the seed says what there is
            max_examples=EXAMPLES,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(inputs(subject))
        def round_of(data: bytes) -> None:
            subject.run(data)

        try:
            round_of()
        except BaseException:
            print(f"in round {number}: OPAM_OCI_FUZZ_ROUND={number} finds it again")
            raise
        number += 1
        if time.monotonic() > end or number - FIRST == ROUNDS:
            break
    print(f"{name}: {(number - FIRST) * EXAMPLES} inputs")


def test_subjects_that_are_told_from_helpers() -> None:
    assert NAMES and all(not name.startswith("_") for name in NAMES)


def test_a_find_and_a_run_away_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver itself, with a subject that cannot stand what it gets."""
    subject = Subject(NAMES[0])

    def bad(data: bytes) -> None:
        while b"loop" in data:
            pass
        data.decode("ascii")

    monkeypatch.setattr(subject._module, "run", bad)
    with pytest.raises(UnicodeDecodeError):
        subject.run(b"\xff")
    with pytest.raises(RunAway, match=r"more than 0\.2 s of CPU time for 4 bytes: b'loop'"):
        subject.run(b"loop", 0.2)
    subject.run(b"good")
