"""`test`: the tests of opam packages, of this repository's and of lockfiles'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pants.core.goals.test import TestDebugRequest, TestFieldSet, TestRequest, TestResult, TestSubsystem
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import CreateDigest, FileContent, Snapshot
from pants.engine.process import FallibleProcessResult, ProcessCacheScope
from pants.engine.target import Target
from pants.util.logging import LogLevel

from opam_oci.downloads.fetch import FetchError
from opam_oci.fields.opam import OpamPackageNameField, OpamPackageVersionField, OpamResolveField
from opam_oci.fields.testing import OpamSkipTestsField, OpamTestTimeoutField
from opam_oci.layers.package import fetch_early
from opam_oci.pants_engine.calls import create_digest, digest_to_snapshot, environment_vars
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.pants_engine.test_results import attempts, test_result, untested
from opam_oci.sandbox.failure import tool_message
from opam_oci.sandbox.on_demand import OnDemandRequest, run_on_demand
from opam_oci.subsystems.opam_test import OpamTestSubsystem
from opam_oci.testing.junit import junit_report
from opam_oci.testing.prepare import (
    PackageTests,
    PackageTestsRequest,
    prepare_package_tests,
    tests_in_foreground,
    tests_process,
)


class TestsError(Exception):
    """Tests that cannot be run in the foreground; the message says why."""

    __test__ = False


@dataclass(frozen=True)
class OpamTestFieldSet(TestFieldSet):
    """A package that is to be tested."""

    required_fields = (OpamPackageNameField, OpamPackageVersionField, OpamSkipTestsField)

    name: OpamPackageNameField
    resolve: OpamResolveField
    timeout: OpamTestTimeoutField

    @classmethod
    def opt_out(cls, tgt: Target) -> bool:
        return bool(tgt.get(OpamSkipTestsField).value)

    @property
    def request(self) -> PackageTestsRequest:
        """The package's tests."""
        return PackageTestsRequest(self.resolve.value or "", self.name.value)


class OpamTestRequest(TestRequest):
    tool_subsystem = OpamTestSubsystem  # type: ignore[assignment]
    field_set_type = OpamTestFieldSet
    supports_debug = True


async def xml_of(field_set: OpamTestFieldSet, tests: PackageTests, seconds: float, failure: str, log: str) -> Snapshot:
    """JUnit's report as a file named after the target."""
    text = junit_report(field_set.address.spec, tests.full_name, seconds, failure, log)
    file = FileContent(f"{field_set.address.path_safe_spec}.xml", text.encode(errors="replace"))
    return await digest_to_snapshot(await create_digest(CreateDigest([file])))


def seconds_of(result: FallibleProcessResult) -> float:
    """How long a process took, also one of an earlier run."""
    return (result.metadata.total_elapsed_ms or 0) / 1000


async def tests_result(field_set: OpamTestFieldSet, test_subsystem: TestSubsystem) -> TestResult:
    """opam builds the package with its tests, and runs them. A failure of that, or of what comes before, is a result."""
    output = test_subsystem.output
    tests = await prepare_package_tests(field_set.request, **implicitly())
    if tests.none:
        return TestResult.no_tests_found(field_set.address, output)
    problem = tests.problem
    results: tuple[FallibleProcessResult, ...] = ()
    if not problem:
        timeout = field_set.timeout.calculate_from_global_options(test_subsystem)
        scope = ProcessCacheScope.PER_SESSION if test_subsystem.force else ProcessCacheScope.SUCCESSFUL
        for attempt in range(attempts(test_subsystem)):
            process = await tests_process(tests, timeout, scope, attempt)
            made = await run_on_demand(OnDemandRequest(process, tests.files), **implicitly())
            problem = "\n\n".join(made.errors)
            results += (made.result,) if made.result is not None else ()
            if made.result is None or made.result.exit_code == 0:
                break
    if problem:
        xml = await xml_of(field_set, tests, 0.0, problem, problem)
        return untested(problem, field_set.address, output, xml)
    last = results[-1]
    failure = tool_message(last) if last.exit_code else ""
    xml = await xml_of(field_set, tests, seconds_of(last), failure, last.stdout.decode(errors="replace"))
    return test_result(results, field_set.address, output, xml)


@rule(desc="Test opam packages", level=LogLevel.DEBUG)
async def run_opam_tests(
    batch: OpamTestRequest.Batch[OpamTestFieldSet, Any], test_subsystem: TestSubsystem
) -> TestResult:
    """One package, as `test` asks for it."""
    return await tests_result(batch.single_element, test_subsystem)


@rule(desc="Test an opam package in the foreground", level=LogLevel.DEBUG)
async def debug_opam_tests(batch: OpamTestRequest.Batch[OpamTestFieldSet, Any]) -> TestDebugRequest:
    """Raises TestsError where there is nothing to run, FetchError where what it is built from is not to be had."""
    tests = await prepare_package_tests(batch.single_element.request, **implicitly())
    if tests.none or tests.problem:
        raise TestsError(tests.problem or f"The opam file of {tests.full_name} has no tests.")
    errors = await fetch_early(tests.files)
    if errors:
        raise FetchError("\n\n".join(errors))
    environment = await environment_vars(EnvironmentVarsRequest(["TERM"]))
    return TestDebugRequest(await tests_in_foreground(tests, dict(environment)))


def rules() -> list[object]:
    return [*collect_rules(), *OpamTestRequest.rules()]
