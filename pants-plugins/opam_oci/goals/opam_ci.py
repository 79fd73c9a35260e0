"""`opam-ci`: all that is to hold of a project before it is merged, with one report."""

from __future__ import annotations

import time
from typing import Iterable

from pants.core.util_rules.distdir import DistDir
from pants.engine.console import Console
from pants.engine.fs import Workspace
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.target import UnexpandedTargets
from pants.option.options_bootstrapper import OptionsBootstrapper
from pants.util.strutil import help_text

from opam_oci.ci.checks import (
    Checked,
    CulpritCheck,
    LintCheck,
    LockCheck,
    PackageCheck,
    check_culprit,
    check_lock,
    check_opam_file,
    check_package,
)
from opam_oci.ci.chosen import (
    NO_PROJECTS,
    Chosen,
    ChosenPackage,
    NoProjectsError,
    choose_packages,
    without_lower_bounds,
)
from opam_oci.ci.reports import text_of, write_ci_reports, write_nothing
from opam_oci.ci.results import CiReport, Outcome, Step, StepResult, in_order
from opam_oci.fields.opam import OpamPackageNameField, OpamPackageVersionField
from opam_oci.fields.projects import OpamSkipLintField
from opam_oci.fields.testing import OpamSkipTestsField
from opam_oci.goals.report_files import write_report_files
from opam_oci.linting.opam_files import OpamLintFieldSet
from opam_oci.pants_engine.calls import session_values
from opam_oci.pants_engine.rules import collect_rules, concurrently, goal_rule, implicitly
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_lint import OpamLintSubsystem
from opam_oci.subsystems.opam_test import OpamTestSubsystem
from opam_oci.testing.run_tests import OpamTestFieldSet

_NOT_LOCKED = "its lockfile does not have it"
_NOT_USABLE = "its lockfile cannot be used"
NOTHING_CHANGED = "Nothing was checked: none of the targets that have changed is of a project."


class OpamCiSubsystem(GoalSubsystem):
    name = "opam-ci"
    help = help_text(
        """
        Check projects as a CI server does before a change is merged, and write one report: `opam-ci src/hello:`.

        Of each `opam_project` (or `opam_local_package`) that is named, with each of its resolves, the steps are: whether the
        lockfile fits BUILD files, opam files and options; `opam lint` of its opam files, as `lint` runs it; the build of its
        packages, as images have them; their tests, as `test` runs them.

        Lower bounds are checked where a resolve is in `[opam].resolves_prefer_oldest`: its packages are built and tested with
        the oldest versions that fit. Of an opam file without such a resolve the report says that they are not checked.

        A failure stops nothing but what stands on it. The report is printed, and written to `dist/opam-ci/`: `report.txt`,
        `report.md` for a merge request, `junit.xml`, and `logs/` of what failed. Exit status 1 if a step failed or could not be
        run.
        """
    )

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True


class OpamCi(Goal):
    """The goal `opam-ci`."""

    subsystem_cls = OpamCiSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


def lint_plan(chosen: Chosen, opam: OpamSubsystem, lint: OpamLintSubsystem) -> tuple[list[LintCheck], list[StepResult]]:
    """Which opam files are to be looked at, each once with each base, and what is said of the others."""
    checks: dict[tuple[str, str], LintCheck] = {}
    others: dict[tuple[str, str], StepResult] = {}
    for one in chosen.packages:
        key = (one.path, opam.resolves_to_base.get(one.resolve, ""))
        if one.target is None:
            others[key] = StepResult(Step.LINT, one.path, one.resolve, Outcome.NOT_RUN, message=_NOT_LOCKED)
        elif lint.skip or one.target[OpamSkipLintField].value:
            why = "by `[opam-lint].skip`" if lint.skip else "by `skip_opam_lint` of its target"
            others[key] = StepResult(Step.LINT, one.path, one.resolve, Outcome.SKIPPED, message=why)
        else:
            checks.setdefault(key, LintCheck(OpamLintFieldSet.create(one.target)))
    return list(checks.values()), [step for key, step in others.items() if key not in checks]


def package_check(one: ChosenPackage, test: OpamTestSubsystem) -> PackageCheck | None:
    """What is to be done with a package; None where the lockfile does not have it."""
    target = one.target
    if target is None:
        return None
    why = "by `[opam-test].skip`" if test.skip else "by `skip_tests` of its target"
    skip = test.skip or bool(target[OpamSkipTestsField].value)
    tests = None if skip else OpamTestFieldSet.create(target)
    return PackageCheck(one.resolve, target[OpamPackageNameField].value, one.subject, tests, why if skip else "")


def not_run(one: ChosenPackage, lower_bounds: bool, why: str) -> list[StepResult]:
    """The steps of a package that cannot be built as things are."""
    return [
        StepResult(step, one.subject, one.resolve, Outcome.NOT_RUN, lower_bounds, why)
        for step in (Step.BUILD, Step.TEST)
    ]


def own_packages(chosen: Chosen) -> set[tuple[str, str]]:
    """Resolve and `name.version` of packages that have steps of their own."""
    return {
        (one.resolve, f"{one.target[OpamPackageNameField].value}.{one.target[OpamPackageVersionField].value}")
        for one in chosen.packages
        if one.target is not None
    }


def culprits_of(checks: Iterable[tuple[PackageCheck, Checked]], own: set[tuple[str, str]]) -> list[CulpritCheck]:
    """What failed below packages and has no step of its own."""
    found = {(check.resolve, package) for check, checked in checks for package in checked.culprits}
    return [CulpritCheck(resolve, package) for resolve, package in sorted(found - own)]


async def asks_for_changes() -> bool:
    """Whether the targets are those that have changed (`--changed-since`, `--changed-diffspec`): there may be none then."""
    asked = (await session_values()).get(OptionsBootstrapper)
    words = (*getattr(asked, "args", ()), *getattr(asked, "env", ()))
    return any(word.startswith(("--changed-", "PANTS_CHANGED_")) for word in words)


async def write_reports(
    reports: dict[str, bytes], text: str, console: Console, workspace: Workspace, dist: DistDir
) -> None:
    """In place of those of an earlier run, and on the terminal."""
    directory = f"{dist.relpath}/{OpamCiSubsystem.name}"
    await write_report_files(reports, directory, workspace)
    console.print_stdout(text)
    console.print_stderr(f"Reports: {directory}/report.md, and others beside it.")


@goal_rule
async def opam_ci(
    console: Console,
    workspace: Workspace,
    targets: UnexpandedTargets,
    dist: DistDir,
    opam: OpamSubsystem,
    lint: OpamLintSubsystem,
    test: OpamTestSubsystem,
) -> OpamCi:
    """Run all steps of what the targets name, and report them. Exit status 1 if one is bad."""
    began = time.monotonic()
    chosen = await choose_packages(targets)
    if not chosen.resolves:
        if not await asks_for_changes():
            raise NoProjectsError(NO_PROJECTS)
        # The reports of an earlier run would be taken for this one's.
        await write_reports(write_nothing(NOTHING_CHANGED), NOTHING_CHANGED, console, workspace, dist)
        return OpamCi(0)
    oldest = frozenset(opam.resolves_prefer_oldest)
    locks = await concurrently(check_lock(LockCheck(resolve), **implicitly()) for resolve in chosen.resolves)
    usable = {resolve for resolve, lock in zip(chosen.resolves, locks) if lock.passed}
    lints, steps = lint_plan(chosen, opam, lint)
    linted = await concurrently(check_opam_file(one, **implicitly()) for one in lints)
    builds = []
    for one in chosen.packages:
        check = package_check(one, test)
        if check is not None and one.resolve in usable:
            builds.append(check)
        else:
            steps += not_run(one, one.resolve in oldest, _NOT_USABLE if one.resolve not in usable else _NOT_LOCKED)
    built = await concurrently(check_package(check, **implicitly()) for check in builds)
    culprits = await concurrently(
        check_culprit(one, **implicitly()) for one in culprits_of(zip(builds, built), own_packages(chosen))
    )
    for path, why in without_lower_bounds(chosen, oldest).items():
        steps.append(StepResult(Step.LOWER_BOUNDS, path, "", Outcome.SKIPPED, message=why))
    found = {*steps, *(step for checked in (*locks, *linted, *built, *culprits) for step in checked.steps)}
    report = CiReport(chosen.directories, in_order(found), time.monotonic() - began)
    await write_reports(write_ci_reports(report), text_of(report), console, workspace, dist)
    return OpamCi(1 if report.bad else 0)


def rules() -> list[object]:
    return [*collect_rules()]
