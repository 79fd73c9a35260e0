"""The options `[opam-list]` and `[opam-revdeps]`."""

from __future__ import annotations

from pants.engine.goal import GoalSubsystem
from pants.option.option_types import BoolOption, StrListOption
from pants.util.strutil import help_text, softwrap


class OpamListSubsystem(GoalSubsystem):
    name = "opam-list"
    help = help_text(
        """
        List the packages of `[opam].repositories` that are available on the base of an `opam_health_check`, as `opam list
        --available` does in an empty switch: all whose opam file's field `available` holds there, or that have none. These are
        the roots of a check without `packages`.

        The check's `compilers` and `constraints` say nothing about this, nor does whether what a package depends on is
        available: `--installable` asks for that.
        """
    )

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True

    all_versions = BoolOption(
        default=False,
        help=softwrap(
            """
            List all versions of a package, the newest first. By default its newest one: of those that `avoid-version` or
            `deprecated` warns of only where there is no other.
            """
        ),
    )
    installable = BoolOption(
        default=False,
        help=softwrap(
            """
            List, for each compiler of the check, only what can be installed together with it and the check's `constraints`, as
            far as that is seen without solving for each package: a few may have no solution all the same.
            """
        ),
    )
    json = BoolOption(
        default=False,
        help=softwrap(
            """
            Print JSON: a list of objects with `target`, `compiler` (with `--installable` one for each; else `""`) and `packages`.
            """
        ),
    )


class OpamRevdepsSubsystem(GoalSubsystem):
    name = "opam-revdeps"
    help = help_text(
        """
        List the packages that can be installed together with others and depend on them, directly or through others, by `depends`,
        `depopts` or their tests. With `--build`, build them as well: what does a change break?

        The base, compilers and repositories are those of an `opam_health_check`.
        """
    )

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True

    of = StrListOption(
        help=softwrap(
            """
            The packages whose dependents are asked for: names, of which the newest version counts, or `NAME.VERSION`.
            """
        )
    )
    build = BoolOption(
        default=False,
        help=softwrap(
            """
            Build them over those packages, the direct ones first, and write the reports of `opam-health`.

            The options of `[opam-health]` hold, as `--opam-health-baseline`.
            """
        ),
    )
    json = BoolOption(default=False, help="Print JSON: a list of compilers, each with what depends on the packages.")
