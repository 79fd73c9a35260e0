"""`opam-list`: what the repositories have for a base."""

from __future__ import annotations

import json

from pants.engine.console import Console
from pants.engine.goal import Goal
from pants.engine.target import Targets

from opam_oci.fields.health import OpamHealthResolveField
from opam_oci.goals.opam_health import checks_among
from opam_oci.health.listing import Listing, list_of
from opam_oci.pants_engine.rules import collect_rules, goal_rule
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_list import OpamListSubsystem


class OpamList(Goal):
    """The goal `opam-list`."""

    subsystem_cls = OpamListSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


def listed_text(listing: Listing) -> str:
    """One line for each package; a line before them for each compiler, where there are several."""
    lines = []
    for one in listing.compilers:
        if len(listing.compilers) > 1:
            lines.append(f"# {one['compiler']}")
        for package in one["packages"]:
            lines.append(f"{package['name']}.{package['version']}")
    return "\n".join(lines)


@goal_rule
async def opam_list(
    console: Console, targets: Targets, options: OpamListSubsystem, opam: OpamSubsystem, debian: DebianSubsystem
) -> OpamList:
    """Print the packages of each check's base."""
    found = []
    for target in checks_among(targets, OpamListSubsystem.name):
        resolve = target[OpamHealthResolveField].value_or_default(target.address)
        found.append(
            (
                target,
                await list_of(
                    resolve, opam, debian, all_versions=options.all_versions, installable=options.installable
                ),
            )
        )
    if options.json:
        values = [
            {"target": target.address.spec, "compiler": one["compiler"], "packages": one["packages"]}
            for target, listing in found
            for one in listing.compilers
        ]
        console.print_stdout(json.dumps(values, indent=1))
        return OpamList(0)
    for target, listing in found:
        if len(found) > 1:
            console.print_stdout(f"# {target.address}")
        console.print_stdout(listed_text(listing))
    return OpamList(0)


def rules() -> list[object]:
    return [*collect_rules()]
