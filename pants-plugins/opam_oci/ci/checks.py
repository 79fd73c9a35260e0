"""The steps of `opam-ci`. Whatever goes wrong in one is its result: the others are run all the same."""

from __future__ import annotations

from dataclasses import dataclass

from pants.core.goals.test import TestResult, TestSubsystem
from pants.engine.engine_aware import EngineAwareParameter, EngineAwareReturnType

from opam_oci.ci.results import Outcome, Step, StepResult
from opam_oci.layers.build_plan import BuildPlanRequest, plan_build
from opam_oci.layers.package import PackageLayerRequest, PackageOutcome, build_package_layer
from opam_oci.linting.opam_files import OpamLintFieldSet, lint_result
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.pants_engine.test_results import output_of
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_lint import OpamLintSubsystem
from opam_oci.testing.run_tests import OpamTestFieldSet, tests_result

NOT_BUILT = "it was not built"
# Of the tool's message: reports have logs under another name.
_LOG_OF_BUILD = "; what it printed is in build.log"


@dataclass(frozen=True)
class Checked(EngineAwareReturnType):
    """Steps that were run, or could not be. culprits: `name.version` of the packages that failed below them, sorted."""

    steps: tuple[StepResult, ...]
    culprits: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the run does not fail by them."""
        return not any(one.is_bad for one in self.steps)

    def cacheable(self) -> bool:
        # A failure is tried again in the next run, also under the same daemon.
        return self.passed


@dataclass(frozen=True)
class LockCheck(EngineAwareParameter):
    """Asks whether a resolve can be built: its lockfile is there, and fits BUILD files, opam files and options."""

    resolve: str

    def debug_hint(self) -> str:
        return self.resolve


@dataclass(frozen=True)
class LintCheck(EngineAwareParameter):
    """Asks for `opam lint` of one opam file."""

    field_set: OpamLintFieldSet

    def debug_hint(self) -> str:
        return self.field_set.opam_file.value


@dataclass(frozen=True)
class PackageCheck(EngineAwareParameter):
    """Asks for the build of one package of a resolve, and for its tests then. subject: its address. tests: None where they are
    left out, because of what `no_tests` says."""

    resolve: str
    name: str
    subject: str
    tests: OpamTestFieldSet | None
    no_tests: str = ""

    def debug_hint(self) -> str:
        return f"{self.subject} ({self.resolve})"


@dataclass(frozen=True)
class CulpritCheck(EngineAwareParameter):
    """Asks why a package failed that others stand on. package: `name.version`."""

    resolve: str
    package: str

    def debug_hint(self) -> str:
        return f"{self.package} ({self.resolve})"


def message_of(text: str) -> str:
    """What a result's one line says of an error: the first paragraph, which names what is wrong and the way out."""
    return text.strip().removeprefix("error: ").split("\n\n")[0].removesuffix(_LOG_OF_BUILD)


def lint_message(log: str, status: int) -> str:
    """What opam has against a file, in one line: its errors or, where `--strict` makes these fail, its warnings."""
    lines = [" ".join(line.split()) for line in log.splitlines()]
    errors = [line for line in lines if line.startswith("error ")]
    found = errors or [line for line in lines if line.startswith("warning ")]
    return "; ".join(found) or f"opam lint ended with exit status {status}"


def failed(step: Step, subject: str, resolve: str, lower_bounds: bool, error: Exception) -> StepResult:
    """The result of a step that could not be run."""
    kind = type(error)
    # An error that nobody thought of may say little without its name.
    text = str(error) if kind.__module__.startswith(("opam_oci.", "pants.")) else f"{kind.__name__}: {error}"
    # A lockfile's differences are a list, which may be long: what is wrong and the way out stand around it.
    short = "\n".join(line for line in text.splitlines() if not line.startswith("  * "))
    return StepResult(step, subject, resolve, Outcome.FAILED, lower_bounds, message_of(short), text)


@rule
async def check_lock(request: LockCheck, opam: OpamSubsystem) -> Checked:
    """The step that the others of the resolve stand on."""
    resolve = request.resolve
    subject = opam.resolves.get(resolve, resolve)
    lower_bounds = resolve in opam.resolves_prefer_oldest
    try:
        await plan_build(BuildPlanRequest(resolve), **implicitly())
    except Exception as error:  # noqa: BLE001 (whatever is wrong: one resolve does not stop the others)
        return Checked((failed(Step.LOCK, subject, resolve, lower_bounds, error),))
    return Checked((StepResult(Step.LOCK, subject, resolve, Outcome.PASSED, lower_bounds),))


@rule
async def check_opam_file(request: LintCheck, opam: OpamSubsystem, lint: OpamLintSubsystem) -> Checked:
    """As `lint` does it, and so from the same cache."""
    path = request.field_set.opam_file.value
    resolve = request.field_set.resolve.value_or_default(opam)
    try:
        result = await lint_result(request.field_set, opam, lint)
    except Exception as error:  # noqa: BLE001 (such as a base that cannot be made)
        return Checked((failed(Step.LINT, path, resolve, False, error),))
    log = "\n".join(part.decode(errors="replace").strip() for part in (result.stdout, result.stderr)).strip()
    if result.exit_code == 0:
        return Checked((StepResult(Step.LINT, path, resolve, Outcome.PASSED, log=log),))
    message = lint_message(log, result.exit_code)
    return Checked((StepResult(Step.LINT, path, resolve, Outcome.FAILED, message=message, log=log),))


def build_step(request: PackageCheck, outcome: PackageOutcome, lower_bounds: bool) -> StepResult:
    """What became of a package's build."""
    subject, resolve = request.subject, request.resolve
    if outcome.ok:
        return StepResult(Step.BUILD, subject, resolve, Outcome.PASSED, lower_bounds)
    if outcome.failed is None:
        message = f"what it depends on was not built, because of {', '.join(outcome.blocked_by)}"
        return StepResult(Step.BUILD, subject, resolve, Outcome.NOT_RUN, lower_bounds, message)
    return failed_build(subject, resolve, lower_bounds, outcome)


def failed_build(subject: str, resolve: str, lower_bounds: bool, outcome: PackageOutcome) -> StepResult:
    """Of a package that was tried."""
    text = outcome.failed or ""
    failure = outcome.failure
    message = message_of(failure.message if failure is not None else text)
    log = failure.log if failure is not None and failure.log else text
    seconds = failure.seconds if failure is not None and failure.seconds else None
    return StepResult(Step.BUILD, subject, resolve, Outcome.FAILED, lower_bounds, message, log, seconds)


def test_step(request: PackageCheck, result: TestResult, lower_bounds: bool) -> StepResult:
    """What became of a package's tests."""
    subject, resolve = request.subject, request.resolve
    if result.exit_code is None:
        message = "its opam file has no tests"
        return StepResult(Step.TEST, subject, resolve, Outcome.SKIPPED, lower_bounds, message)
    out, err = output_of(result)
    log = "\n".join(part for part in (out.strip("\n"), err.strip("\n")) if part)
    milliseconds = result.result_metadata.total_elapsed_ms if result.result_metadata is not None else None
    seconds = milliseconds / 1000 if milliseconds is not None else None
    if result.exit_code == 0:
        return StepResult(Step.TEST, subject, resolve, Outcome.PASSED, lower_bounds, "", log, seconds)
    message = message_of(err) or f"exit status {result.exit_code}"
    return StepResult(Step.TEST, subject, resolve, Outcome.FAILED, lower_bounds, message, log, seconds)


# pytest, which this name looks like a test to.
test_step.__test__ = False  # type: ignore[attr-defined]


@rule
async def check_package(request: PackageCheck, opam: OpamSubsystem, test: TestSubsystem) -> Checked:
    """Its layer as `package` makes it, its tests as `test` runs them."""
    subject, resolve = request.subject, request.resolve
    lower_bounds = resolve in opam.resolves_prefer_oldest
    try:
        outcome = await build_package_layer(PackageLayerRequest(resolve, request.name), **implicitly())
        build = build_step(request, outcome, lower_bounds)
        culprits = outcome.blocked_by
    except Exception as error:  # noqa: BLE001 (such as a base that cannot be made)
        build, culprits = failed(Step.BUILD, subject, resolve, lower_bounds, error), ()
    if request.tests is None:
        skipped = StepResult(Step.TEST, subject, resolve, Outcome.SKIPPED, lower_bounds, request.no_tests)
        return Checked((build, skipped), culprits)
    if build.is_bad:
        not_run = StepResult(Step.TEST, subject, resolve, Outcome.NOT_RUN, lower_bounds, NOT_BUILT)
        return Checked((build, not_run), culprits)
    try:
        result = await tests_result(request.tests, test)
        return Checked((build, test_step(request, result, lower_bounds)))
    except Exception as error:  # noqa: BLE001 (see above)
        return Checked((build, failed(Step.TEST, subject, resolve, lower_bounds, error)))


@rule
async def check_culprit(request: CulpritCheck, opam: OpamSubsystem) -> Checked:
    """What its build said, once more: it was tried in this run already."""
    resolve = request.resolve
    plan = await plan_build(BuildPlanRequest(resolve), **implicitly())
    name = next(one.name for one in plan.lock.packages.values() if one.full_name == request.package)
    outcome = await build_package_layer(PackageLayerRequest(resolve, name), **implicitly())
    lower_bounds = resolve in opam.resolves_prefer_oldest
    return Checked((failed_build(request.package, resolve, lower_bounds, outcome),))


def rules() -> list[object]:
    return [*collect_rules()]
