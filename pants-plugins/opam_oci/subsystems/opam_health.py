"""The options `[opam-health]`."""

from __future__ import annotations

from enum import Enum

from pants.engine.goal import GoalSubsystem
from pants.option.option_types import BoolOption, DictOption, EnumOption, FileOption, IntOption
from pants.util.strutil import help_text, softwrap

from opam_oci.subsystems.resolves import find_lockfile


class FailOn(Enum):
    """What makes `opam-health` exit with status 1."""

    FAILURES = "failures"
    REGRESSIONS = "regressions"
    NOTHING = "nothing"


class BadHealthOptionError(Exception):
    """Options of a health check make no sense."""


class OpamHealthSubsystem(GoalSubsystem):
    name = "opam-health"
    help = help_text(
        """
        Build every package of an `opam_health_check`, and report which build, which do not, and why.

        Each package is solved on its own, as `opam install` does in an empty switch; equal packages over equal dependencies are
        built once. A failure stops nothing. Reports are written below `dist/`: JSON, JUnit XML, Markdown, DOT, SVG, HTML.
        """
    )

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True

    resolves = DictOption[str](
        default={},
        help=softwrap(
            """
            Names of health checks, each with the path of its lockfile, such as `{"all": "3rdparty/opam/health.lock"}`.

            An `opam_health_check` target has the name in its field `resolve`; `pants generate-lockfiles --resolve=<name>` solves
            its packages and writes the lockfile. Names must differ from those in `[opam].resolves` and `[debian].resolves`.
            """
        ),
    )
    dry_run = BoolOption(
        default=False,
        help="Build nothing, here or on remote workers: say which packages the caches know, and which would be built.",
    )
    retry_failed = BoolOption(
        default=False,
        help=softwrap(
            """
            Build packages again that failed before.

            By default a failure is remembered like a success, unless it was the machine's or the network's.
            """
        ),
    )
    baseline = FileOption(
        default=None,
        help=softwrap(
            """
            The `results.json` of an earlier run: reports then say what got worse and what got better since. Default: none.
            """
        ),
    )
    fail_on = EnumOption(
        default=FailOn.FAILURES,
        help=softwrap(
            """
            When to exit with status 1: if any package fails to build (`failures`), only if one fails that built in the
            `--baseline` (`regressions`), or never (`nothing`). Packages without a solution, or whose opam file says that
            they may fail (`x-ci-accept-failures`), do not count.
            """
        ),
    )
    time_limit = IntOption(
        default=None,
        help=softwrap(
            """
            Seconds after which no more builds are started; what was not tried by then is `cancelled`. Default: none.
            """
        ),
    )

    def check(self) -> None:
        """Raise BadHealthOptionError where options for a run make no sense."""
        if self.time_limit is not None and self.time_limit < 0:
            raise BadHealthOptionError(f"`[opam-health].time_limit` is {self.time_limit}; it takes seconds, 0 or more.")
        if self.fail_on == FailOn.REGRESSIONS and not self.baseline:
            raise BadHealthOptionError(
                "`[opam-health].fail_on` is `regressions`, and there is nothing to compare with: name the `results.json` of an "
                "earlier run with `--opam-health-baseline`."
            )

    def lockfile_of(self, resolve: str, origin: str) -> str:
        """The path of a check's lockfile; `origin` says for an error what names the resolve."""
        return find_lockfile(resolve, self.resolves, "[opam-health].resolves", origin)
