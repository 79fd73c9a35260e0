"""`opam-health`: which packages of the repositories build, which do not, and why."""

from __future__ import annotations

from pants.core.util_rules.distdir import DistDir
from pants.engine.console import Console
from pants.engine.fs import PathGlobs, Workspace
from pants.engine.goal import Goal
from pants.engine.target import Target, Targets

from opam_oci.fields.health import OpamHealthBaseField, OpamHealthResolveField
from opam_oci.goals.report_files import write_report_files
from opam_oci.health.compare import Comparison, compare
from opam_oci.health.node import Mode
from opam_oci.health.plan import HealthPlanRequest
from opam_oci.health.read_results import ResultsError, read_results
from opam_oci.health.reports import write_reports
from opam_oci.health.results import HealthReport, Status
from opam_oci.health.run import HealthRun, run_check
from opam_oci.health.summary import summary
from opam_oci.pants_engine.calls import contents_of_globs
from opam_oci.pants_engine.rules import collect_rules, goal_rule
from opam_oci.subsystems.opam_health import FailOn, OpamHealthSubsystem


class OpamHealth(Goal):
    """The goal `opam-health`."""

    subsystem_cls = OpamHealthSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


class NoHealthCheckError(Exception):
    """No target is named that the goal can work on."""


def mode_of(health: OpamHealthSubsystem) -> Mode:
    """How packages are asked for."""
    if health.dry_run:
        return Mode.LOOK
    return Mode.RETRY if health.retry_failed else Mode.BUILD


def checks_among(targets: Targets, goal: str) -> list[Target]:
    """The health checks, by address. Raises NoHealthCheckError where there is none."""
    found = sorted((one for one in targets if one.has_field(OpamHealthBaseField)), key=lambda one: one.address)
    if not found:
        raise NoHealthCheckError(
            f"`{goal}` works on `opam_health_check` targets, and none is named. Name one, or `::` for all of them."
        )
    return found


async def read_baseline(path: str) -> HealthReport:
    """An earlier run's results. Raises ResultsError."""
    contents = await contents_of_globs(PathGlobs([path]))
    if not contents:
        raise ResultsError(f"The baseline {path} does not exist.")
    return read_results(contents[0].content, path)


def failed(report: HealthReport, comparison: Comparison | None, fail_on: FailOn) -> bool:
    """Whether the run's exit status is 1."""
    if fail_on == FailOn.FAILURES:
        broken = (Status.FAILURE, Status.TIMED_OUT)
        return any(one.status in broken and not one.accept_failures for one in report.packages.values())
    if fail_on == FailOn.REGRESSIONS:
        return comparison is not None and comparison.broke_something
    return False


def directory_of(target: Target, goal: str) -> str:
    """Where the reports of a goal on a check are, below the distribution directory."""
    where = target.address.spec_path.replace("/", ".")
    return "/".join((goal, *([where] if where else []), target.address.target_name))


async def report_run(
    run: HealthRun,
    before: HealthReport | None,
    target: Target,
    goal: str,
    health: OpamHealthSubsystem,
    dist: DistDir,
    workspace: Workspace,
    console: Console,
) -> int:
    """Write and print what a run found. Returns the exit status."""
    comparison = compare(before, run.report) if before is not None else None
    if not health.dry_run:
        directory = directory_of(target, goal)
        files = write_reports(run.report, run.logs, comparison)
        await write_report_files(files, f"{dist.relpath}/{directory}", workspace)
        console.print_stderr(f"Reports: {dist.relpath}/{directory}/index.html, and others beside it.")
    console.print_stdout(summary(run.report, comparison).rstrip())
    if health.dry_run:
        for one in run.report.packages.values():
            if one.status == Status.NOT_BUILT:
                console.print_stdout(f"would build {one.full_name}")
    return 1 if failed(run.report, comparison, health.fail_on) else 0


@goal_rule
async def opam_health(
    console: Console, workspace: Workspace, targets: Targets, dist: DistDir, health: OpamHealthSubsystem
) -> OpamHealth:
    """Run each check that is named, one after the other. Exit status 1 by `--opam-health-fail-on`."""
    exit_code = 0
    health.check()
    before = await read_baseline(health.baseline) if health.baseline else None
    for target in checks_among(targets, OpamHealthSubsystem.name):
        resolve = target[OpamHealthResolveField].value_or_default(target.address)
        run = await run_check(HealthPlanRequest(resolve), mode_of(health), limited=health.time_limit is not None)
        exit_code = max(
            exit_code, await report_run(run, before, target, "opam-health", health, dist, workspace, console)
        )
    return OpamHealth(exit_code)


def rules() -> list[object]:
    return [*collect_rules()]
