"""Results of Pants' goal `test`, which newer versions want in other words."""

from __future__ import annotations

from pants.core.goals.test import ShowOutput, TestResult, TestSubsystem
from pants.engine.addresses import Address
from pants.engine.fs import EMPTY_FILE_DIGEST, Snapshot
from pants.engine.process import FallibleProcessResult

from opam_oci.pants_engine.version import BY_NAME


def attempts(test: TestSubsystem) -> int:
    """How often a test that fails is run."""
    if BY_NAME:
        return test.attempts_default
    return 1


def test_result(
    processes: tuple[FallibleProcessResult, ...], address: Address, output: ShowOutput, xml: Snapshot
) -> TestResult:
    """What processes, one for each attempt, have come to. xml: JUnit's report."""
    if BY_NAME:
        return TestResult.from_fallible_process_result(processes, address, output, xml_results=xml)
    last = processes[-1]
    # Not by Pants' own function: it fails where a test prints what is no UTF-8.
    return TestResult(
        exit_code=last.exit_code,
        stdout=last.stdout.decode(errors="replace"),
        stdout_digest=last.stdout_digest,
        stderr=last.stderr.decode(errors="replace"),
        stderr_digest=last.stderr_digest,
        addresses=(address,),
        output_setting=output,
        result_metadata=last.metadata,
        xml_results=xml,
    )


def output_of(result: TestResult) -> tuple[str, str]:
    """What tests printed, and what was said of them."""
    if BY_NAME:
        return result.stdout_bytes.decode(errors="replace"), result.stderr_bytes.decode(errors="replace")
    return result.stdout, result.stderr


def untested(problem: str, address: Address, output: ShowOutput, xml: Snapshot) -> TestResult:
    """The failure of tests that could not be run."""
    if BY_NAME:
        return TestResult(
            exit_code=1,
            stdout_bytes=b"",
            stdout_digest=EMPTY_FILE_DIGEST,
            stderr_bytes=problem.encode(errors="replace"),
            stderr_digest=EMPTY_FILE_DIGEST,
            addresses=(address,),
            output_setting=output,
            result_metadata=None,
            xml_results=xml,
        )
    return TestResult(
        exit_code=1,
        stdout="",
        stdout_digest=EMPTY_FILE_DIGEST,
        stderr=problem,
        stderr_digest=EMPTY_FILE_DIGEST,
        addresses=(address,),
        output_setting=output,
        result_metadata=None,
        xml_results=xml,
    )


# pytest, which these names look like tests to.
test_result.__test__ = False  # type: ignore[attr-defined]
