"""`opam-log`: the build logs of packages."""

from __future__ import annotations

from pathlib import Path

from pants.engine.console import Console
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.target import Targets
from pants.option.global_options import GlobalOptions
from pants.option.option_types import BoolOption
from pants.util.strutil import help_text

from opam_oci.goals.asked_packages import AskedPackage, packages_of_targets
from opam_oci.layers.cached_build import CachedBuild, CachedBuildRequest, find_cached_build
from opam_oci.layers.failed_logs import last_failure
from opam_oci.layers.package import PackageLayerRequest, PackageOutcome, build_package_layer
from opam_oci.pants_engine.rules import collect_rules, concurrently, goal_rule, implicitly
from opam_oci.sandbox.process import store_directory


class OpamLogSubsystem(GoalSubsystem):
    name = "opam-log"
    help = help_text(
        """
        Print the build logs of opam packages: of `opam_package` targets, and of all packages of `oci_package_image` targets,
        dependencies first. They come out of the caches, local or remote, and nothing is built.

        Of a package whose last build failed, the log of that is printed, if it failed on this machine within the last two
        weeks. Exit status 1 if there is none of some package.
        """
    )

    build = BoolOption(default=False, help="Build what no cache has, instead of saying that there is no log of it.")

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True


class OpamLog(Goal):
    """The goal `opam-log`."""

    subsystem_cls = OpamLogSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


async def build_all(asked: list[AskedPackage]) -> list[PackageOutcome]:
    """What becomes of each package."""
    return list(
        await concurrently(
            build_package_layer(PackageLayerRequest(one.resolve, one.name), **implicitly()) for one in asked
        )
    )


def report(console: Console, found: CachedBuild, store: Path, many: bool, built: bool) -> bool:
    """Print what is known of a package; whether that is anything."""
    name = found.package
    if found.log is not None:
        console.print_stdout("\n".join([*([f"==> {name}"] if many else []), found.log.rstrip()]).rstrip("\n"))
        return True
    failed = last_failure(store, name)
    if failed is not None:
        console.print_stdout(
            f"==> {name}, a build that failed on {failed.time}: {failed.message}\n{failed.log.rstrip()}"
        )
        return True
    advice = "it was not built, see above" if built else "no cache has it: `--opam-log-build` builds it"
    console.print_stderr(f"{console.sigil_failed()} {name}: there is no build log: {advice}.")
    return False


@goal_rule
async def opam_log(console: Console, targets: Targets, subsystem: OpamLogSubsystem, options: GlobalOptions) -> OpamLog:
    """Print logs in order."""
    asked = await packages_of_targets(targets, "opam-log")
    store = Path(store_directory(options))
    failed = False
    if subsystem.build:
        for outcome in await build_all(asked):
            if outcome.failed is not None:
                failed = True
                console.print_stderr(f"{console.sigil_failed()} {outcome.package} failed.")
            elif outcome.blocked_by:
                console.print_stderr(
                    f"{console.sigil_failed()} {outcome.package} was not built, because of {', '.join(outcome.blocked_by)}."
                )
    found = await concurrently(
        find_cached_build(CachedBuildRequest(one.resolve, one.name, made=subsystem.build), **implicitly())
        for one in asked
    )
    known = [report(console, one, store, len(asked) > 1, subsystem.build) for one in found]
    return OpamLog(0 if all(known) and not failed else 1)


def rules() -> list[object]:
    return [*collect_rules()]
