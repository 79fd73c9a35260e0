"""`opam-cache`: what builds keep on this machine between runs, how large and how old it is, and what of it goes."""

from __future__ import annotations

from pants.engine.console import Console
from pants.engine.goal import Goal, GoalSubsystem
from pants.option.global_options import GlobalOptions
from pants.option.option_types import BoolOption, EnumOption, IntOption, StrListOption, StrOption
from pants.util.strutil import help_text, softwrap

from opam_oci.host.programs import find_python
from opam_oci.pants_engine.calls import run_interactive_process
from opam_oci.pants_engine.rules import collect_rules, goal_rule, implicitly
from opam_oci.sandbox.process import publishing_process, store_directory
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.output_format import Format


class OpamCacheSubsystem(GoalSubsystem):
    name = "opam-cache"
    help = help_text(
        """
        Print what builds keep on this machine between runs: each kind of it, its size, and when it was last used. With
        `--prune`, remove what was not used for the longest time.

        These are unpacked layers above all, in Pants' named cache `opam_oci_layers`. Whatever is removed is made again when it is
        needed, with the same bytes. What a build or a container uses now is never removed.
        """
    )

    verify = BoolOption(
        default=False,
        help=softwrap(
            """
            Read every file of every unpacked layer and compare it with what was recorded when the layer was unpacked. Remove
            what is damaged, say so, and exit with status 1 if anything was: it is unpacked again when it is needed.
            """
        ),
    )
    prune = BoolOption(
        default=False,
        help=softwrap(
            """
            Remove what killed processes left, and what `--days`, `--percent` and `--max-size` say. If there are several of these,
            each is kept to.
            """
        ),
    )
    days = IntOption(default=None, help="With `--prune`: remove what was not used for more than so many days.")
    percent = IntOption(
        default=None, help="With `--prune`: keep so many percent of the bytes, of what was used last; 0 removes all."
    )
    max_size = StrOption(
        default=None,
        help="With `--prune`: keep so much of what was used last, such as `20GiB`, or `20%` of the disk.",
    )
    kinds = StrListOption(
        help=softwrap(
            """
            With `--prune`: look at these kinds only, such as `--kinds=layers`. Names are those that are printed without
            `--prune`. Default: all that can be pruned.
            """
        ),
    )
    failed = BoolOption(
        default=False, help="With `--prune`, and with no limit: remove what is kept of builds that failed, their logs."
    )
    dry_run = BoolOption(default=False, help="With `--prune`: print what would go, and remove nothing.")
    format = EnumOption(default=Format.text, help="Text for people, or JSON for programs: sizes in bytes.")

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True

    def limits(self) -> dict[str, str]:
        """What `--prune` is given, by the tool's options."""
        values = {"--days": self.days, "--percent": self.percent, "--max-size": self.max_size}
        return {name: str(value) for name, value in values.items() if value is not None}

    def arguments(self, store: str) -> list[str]:
        """The tool's command line. Raises ValueError where options need `--prune`."""
        if self.verify:
            if self.prune:
                raise ValueError("--verify and --prune are two things: ask for one of them.")
            return ["verify", store]
        if not self.prune:
            needing = [*self.limits(), *(["--kinds"] if self.kinds else []), *(["--dry-run"] if self.dry_run else [])]
            needing += ["--failed"] if self.failed else []
            if needing:
                raise ValueError(f"{' and '.join(needing)} say what is removed: add `--prune`.")
            return ["usage", store, f"--format={self.format.value}"]
        if self.failed and (self.limits() or self.kinds):
            raise ValueError(
                "--failed removes all that is kept of failed builds, and goes with no limit and no --kinds."
            )
        limits = {"--percent": "0"} if self.failed else self.limits()
        options = [f"{name}={value}" for name, value in limits.items()]
        options += [f"--kind={name}" for name in (["failed"] if self.failed else self.kinds)]
        options += ["--dry-run"] if self.dry_run else []
        return ["prune", store, f"--format={self.format.value}", *options]


class OpamCache(Goal):
    """The goal `opam-cache`."""

    subsystem_cls = OpamCacheSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


@goal_rule
async def opam_cache(console: Console, subsystem: OpamCacheSubsystem, options: GlobalOptions) -> OpamCache:
    """Have the tool print or prune."""
    try:
        arguments = subsystem.arguments(store_directory(options))
    except ValueError as error:
        console.print_stderr(f"{console.sigil_failed()} opam-cache: {error}")
        return OpamCache(1)
    tool = await find_sandbox_tool(**implicitly())
    process = publishing_process(tool, find_python(), arguments, env={"LANG": "C.UTF-8"})
    result = await run_interactive_process(process)
    return OpamCache(result.exit_code)


def rules() -> list[object]:
    return [*collect_rules()]
