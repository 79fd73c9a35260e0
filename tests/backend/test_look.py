"""Looking a process up in the caches: it is never started, here or elsewhere, and keeps its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pants.engine.process import FallibleProcessResult, Process
from pants.engine.rules import QueryRule
from pants.testutil.rule_runner import RuleRunner

from opam_oci.sandbox import look
from opam_oci.sandbox.look import Looked, LookRequest, is_refused

# Nobody answers there.
NOBODY = "grpc://127.0.0.1:9"


def runner_with(*bootstrap_args: str) -> RuleRunner:
    made = RuleRunner(
        rules=[*look.rules(), QueryRule(Looked, [LookRequest]), QueryRule(FallibleProcessResult, [Process])],
        isolated_local_store=True,
        bootstrap_args=bootstrap_args,
    )
    made.set_options(bootstrap_args)
    return made


def noting(tmp_path: Path, status: int = 0) -> Process:
    """A process that knows nothing of being looked for, and notes that it was started."""
    script = f"echo started >>{tmp_path}/notes; echo done >out; exit {status}"
    return Process(["/bin/sh", "-c", script], description="Note", output_files=["out"])


def started(tmp_path: Path) -> int:
    notes = tmp_path / "notes"
    return len(notes.read_text().splitlines()) if notes.exists() else 0


def test_what_is_looked_for_is_not_started(tmp_path: Path) -> None:
    runner, process = runner_with(), noting(tmp_path)
    assert runner.request(Looked, [LookRequest(process)]).found is None
    assert started(tmp_path) == 0
    assert runner.scheduler.get_metrics().get("local_execution_requests", 0) == 0
    made = runner.request(FallibleProcessResult, [process])
    assert (made.exit_code, started(tmp_path)) == (0, 1)
    # In the next run of the same daemon.
    runner.set_options([])
    found = runner.request(Looked, [LookRequest(process)]).found
    assert found is not None and found.output_digest == made.output_digest
    assert started(tmp_path) == 1


def test_a_failure_is_no_answer(tmp_path: Path) -> None:
    runner, process = runner_with(), noting(tmp_path, status=3)
    assert runner.request(FallibleProcessResult, [process]).exit_code == 3
    assert runner.request(Looked, [LookRequest(process)]).found is None
    assert started(tmp_path) == 1


def test_no_worker_is_asked(tmp_path: Path) -> None:
    """Where processes run on remote workers, looking for one neither needs nor waits for them."""
    runner = runner_with(
        "--remote-execution", f"--remote-execution-address={NOBODY}", f"--remote-store-address={NOBODY}"
    )
    assert runner.request(Looked, [LookRequest(noting(tmp_path))]).found is None
    counted = runner.scheduler.get_metrics()
    assert {name: number for name, number in counted.items() if "execution" in name and number} == {}
    # A process that is to be made does ask for one.
    with pytest.raises(Exception, match="(?i)connect|unavailable|transport"):
        runner.request(FallibleProcessResult, [noting(tmp_path, status=1)])


def test_the_engine_s_words_for_what_it_does_not_start() -> None:
    """The same from 2.17 to 2.34."""
    text = "Process x set `concurrency_available=1`, but did not include the `\\{pants_concurrency\\}` template"
    assert is_refused(Exception(f"{text} variable in its arguments."))


@pytest.mark.parametrize("text", ["No space left on device", "Missing digest: x", "concurrency_available is no number"])
def test_other_failures(text: str) -> None:
    assert not is_refused(Exception(text))
