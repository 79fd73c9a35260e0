"""The options `[opam-list]` and `[opam-revdeps]`."""

from __future__ import annotations

from pants.engine.goal import GoalSubsystem
from pants.option.option_types import BoolOption, StrListOption
from pants.util.strutil import help_text, softwrap


class OpamListSubsystem(GoalSubsystem):
    name = "opam-list"
    help = help_text(
        """
        List the packages of `[opam].repositories` that are available on the base of an `opam_health_check`, with each of its
        compilers.
        """
    )

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True

    all_versions = BoolOption(default=False, help="List all versions of a package, not only the newest.")
    json = BoolOption(default=False, help="Print JSON: a list of compilers, each with its packages.")


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
