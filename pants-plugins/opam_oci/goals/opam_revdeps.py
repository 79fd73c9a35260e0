"""`opam-revdeps`: what depends on packages, and whether it still builds."""

from __future__ import annotations

import json

from pants.core.util_rules.distdir import DistDir
from pants.engine.console import Console
from pants.engine.fs import Workspace
from pants.engine.goal import Goal
from pants.engine.target import Targets

from opam_oci.fields.health import OpamHealthResolveField
from opam_oci.goals.opam_health import checks_among, mode_of, read_baseline, report_run
from opam_oci.health.listing import Listing, list_of
from opam_oci.health.plan import HealthPlanRequest
from opam_oci.health.run import run_check
from opam_oci.pants_engine.rules import collect_rules, goal_rule
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_health import OpamHealthSubsystem
from opam_oci.subsystems.opam_list import OpamRevdepsSubsystem


class OpamRevdeps(Goal):
    """The goal `opam-revdeps`."""

    subsystem_cls = OpamRevdepsSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


class NothingAskedError(Exception):
    """No package is named."""


def dependents_text(listing: Listing) -> str:
    """One line for each dependent, the nearest first: its distance, the way that it depends, on what."""
    lines = []
    for one in listing.compilers:
        if len(listing.compilers) > 1:
            lines.append(f"# {one['compiler'] or 'any compiler'}")
        for found in sorted(one["revdeps"], key=lambda found: (found["distance"], found["name"], found["version"])):
            lines.append(f"{found['distance']} {found['name']}.{found['version']} ({found['by']}: {found['of']})")
    return "\n".join(lines)


@goal_rule
async def opam_revdeps(
    console: Console,
    workspace: Workspace,
    targets: Targets,
    dist: DistDir,
    options: OpamRevdepsSubsystem,
    health: OpamHealthSubsystem,
    opam: OpamSubsystem,
    debian: DebianSubsystem,
) -> OpamRevdeps:
    """List, or build, what depends on the packages that are named. Exit status 1 as of `opam-health`."""
    if not options.of:
        raise NothingAskedError(
            "`opam-revdeps` wants the packages whose dependents are asked for: `--opam-revdeps-of=NAME`."
        )
    of = tuple(options.of)
    exit_code = 0
    values = []
    if options.build:
        health.check()
    before = await read_baseline(health.baseline) if options.build and health.baseline else None
    for target in checks_among(targets, OpamRevdepsSubsystem.name):
        resolve = target[OpamHealthResolveField].value_or_default(target.address)
        if not options.build:
            listing = await list_of(resolve, opam, debian, revdeps_of=of)
            values += [
                {"target": target.address.spec, "compiler": one["compiler"], "revdeps": one["revdeps"]}
                for one in listing.compilers
            ]
            if not options.json:
                console.print_stdout(dependents_text(listing))
            continue
        request = HealthPlanRequest(resolve, of)
        run = await run_check(request, mode_of(health), limited=health.time_limit is not None)
        exit_code = max(
            exit_code, await report_run(run, before, target, "opam-revdeps", health, dist, workspace, console)
        )
    if options.json and not options.build:
        console.print_stdout(json.dumps(values, indent=1))
    return OpamRevdeps(exit_code)


def rules() -> list[object]:
    return [*collect_rules()]
