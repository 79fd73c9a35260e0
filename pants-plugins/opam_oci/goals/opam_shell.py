"""`opam-shell`: a shell, or a command, where a package is built."""

from __future__ import annotations

import os

from pants.base.build_environment import get_buildroot
from pants.engine.console import Console
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import CreateDigest
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.target import Targets
from pants.option.option_types import ArgsListOption, BoolOption, StrOption
from pants.util.strutil import help_text, softwrap

from opam_oci.goals.asked_packages import AskedPackage, is_package, package_of
from opam_oci.host.programs import find_python, hidden
from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest, plan_build
from opam_oci.layers.foundation import Foundation, FoundationRequest, make_foundation
from opam_oci.layers.outcomes import failures_among
from opam_oci.layers.package import (
    PackageLayerRequest,
    PackageOutcome,
    build_package_layer,
    fetch_early,
    files_of,
    input_entries,
    layers_below,
    over,
    request_of,
    tree_of,
)
from opam_oci.layers.requests import out_of_reach
from opam_oci.pants_engine.calls import create_digest, environment_vars, run_interactive_process
from opam_oci.pants_engine.rules import collect_rules, concurrently, goal_rule, implicitly
from opam_oci.resolves.projects import owns_an_opam_file
from opam_oci.sandbox.process import request_file, shell_process
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.opam import OpamSubsystem


class ShellError(Exception):
    """There is no sandbox to be in; the message says why."""


class OpamShellSubsystem(GoalSubsystem):
    name = "opam-shell"
    help = help_text(
        """
        Open a shell in the sandbox of one opam package's build, or run a command there:
        `opam-shell 3rdparty/opam:default#lwt -- make test`.

        It is where opam would run the package's own commands: as user opam, in the directory with the package's sources,
        unpacked and patched, with the variables that opam sets, with what the package depends on installed and nothing else,
        and without network. A shell begins with the commands that opam runs. What is written is gone at the end; nothing of
        it gets into a layer.

        The exit status is the command's. What the package depends on is built if no cache has it. Limits of builds
        (`[opam].build_timeout` and others) do not hold.
        """
    )

    after_build = BoolOption(
        default=False,
        help=softwrap(
            """
            Run the package's build first, and be where it ended: with what it made until it failed, and the end of its log.
            """
        ),
    )
    network = BoolOption(default=False, help="Let the command use this machine's network, which builds cannot.")
    keep = StrOption(
        default="",
        help=softwrap(
            """
            A directory, empty or not there yet, below the build root unless it is absolute: it is the build's directory, so that
            sources and what is built of them stay. Default: nothing stays.
            """
        ),
    )
    args = ArgsListOption(example="make test", passthrough=True, extra_help="Default: a shell.")

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True


class OpamShell(Goal):
    """The goal `opam-shell`."""

    subsystem_cls = OpamShellSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


def the_package(targets: Targets) -> AskedPackage:
    """Raises ShellError unless there is one."""
    # Whoever names a project means its packages, not the targets of their opam files.
    asked = [target for target in targets if not owns_an_opam_file(target)]
    packages = [target for target in asked if is_package(target)]
    if len(asked) != 1 or not packages:
        named = ", ".join(sorted(str(target.address) for target in asked)[:5]) or "none"
        raise ShellError(
            "`opam-shell` is for one `opam_package` target, such as `3rdparty/opam:default#lwt`; the command line names "
            f"{len(asked)} targets: {named}."
            if len(asked) != 1
            else f"`opam-shell` is for an `opam_package` target, such as `3rdparty/opam:default#lwt`, but {named} is none."
        )
    return package_of(packages[0])


def check_dependencies(package: str, outcomes: tuple[PackageOutcome, ...]) -> None:
    """Raise ShellError, with what failed and why, unless all are built."""
    failed, culprits = failures_among(outcomes)
    if failed or culprits:
        because = f" because of {', '.join(culprits)}" if culprits else ""
        raise ShellError(
            "\n\n".join([f"There is no sandbox of {package}: what it depends on was not built{because}.", *failed])
        )


async def dependencies_of(asked: AskedPackage, plan: BuildPlan) -> tuple[PackageOutcome, ...]:
    """What becomes of all that it depends on."""
    return await concurrently(
        build_package_layer(PackageLayerRequest(asked.resolve, name), **implicitly())
        for name in plan.lock.packages[asked.name].depends
    )


async def foundation_of(plan: BuildPlan) -> Foundation:
    """Base and opam's root. Raises LayerError, FetchError."""
    return await make_foundation(FoundationRequest(plan.debian_lock), **implicitly())


@goal_rule
async def opam_shell(
    console: Console, targets: Targets, subsystem: OpamShellSubsystem, opam: OpamSubsystem
) -> OpamShell:
    """Build what the package depends on, fetch what it is built of, and be in its sandbox."""
    asked = the_package(targets)
    plan = await plan_build(BuildPlanRequest(asked.resolve), **implicitly())
    package = plan.lock.packages[asked.name]
    problems = out_of_reach(package, asked.resolve)
    outcomes = await dependencies_of(asked, plan)
    check_dependencies(package.full_name, outcomes)
    debs = plan.lock.debs_of(package.name)
    problems = problems or await fetch_early(files_of(package, debs, asked.resolve))
    if problems:
        raise ShellError("\n\n".join(problems))
    ground = await foundation_of(plan)
    process = over(asked.resolve, plan, ground, package.name, layers_below(plan.lock, outcomes))
    tree = await tree_of(asked.resolve, package)
    values = {
        **request_of(plan, process, opam, tree),
        "command": list(subsystem.args),
        "after_build": subsystem.after_build,
        "network": subsystem.network,
        "keep": os.path.join(get_buildroot(), os.path.expanduser(subsystem.keep)) if subsystem.keep else "",
    }
    inputs = await create_digest(
        CreateDigest([request_file(values, process.layers), *input_entries(package, debs, tree)])
    )
    environment = await environment_vars(EnvironmentVarsRequest(["TERM"]))
    tool = await find_sandbox_tool(**implicitly())
    result = await run_interactive_process(
        shell_process(tool, find_python(), "shell", process.layers, inputs, env=hidden(dict(environment)))
    )
    return OpamShell(result.exit_code)


def rules() -> list[object]:
    return [*collect_rules()]
