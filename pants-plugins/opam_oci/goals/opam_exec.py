"""`opam-exec`: a command where packages are installed."""

from __future__ import annotations

from pants.engine.console import Console
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.target import Targets
from pants.option.option_types import ArgsListOption, BoolOption, StrOption
from pants.util.strutil import help_text, softwrap

from opam_oci.entering.asked import asked_of
from opam_oci.entering.command import entering, host_directory
from opam_oci.entering.environment import EnvironmentRequest, build_environment
from opam_oci.entering.errors import EnteringError
from opam_oci.host.programs import hidden
from opam_oci.pants_engine.calls import environment_vars, run_interactive_process
from opam_oci.pants_engine.rules import collect_rules, goal_rule, implicitly
from opam_oci.sandbox.process import interactive

# Where no command is named.
_SHELL = ("sh", "-c", 'exec "$([ -x /bin/bash ] && echo /bin/bash || echo /bin/sh)"')


class OpamExecSubsystem(GoalSubsystem):
    name = "opam-exec"
    help = help_text(
        """
        Run a command where packages are installed: `opam-exec 3rdparty/opam:default#lwt -- ocamlfind list`.

        Of an `opam_package`, it and all that it depends on are there, as in an image of it. The command runs as user opam, with
        the variables that opam gives there, those of packages (`setenv`) among them, and without network. It sees nothing of
        this machine but the directory that `--directory` names, at the same place, and starts there. What it writes there
        stays, and belongs to you (to the directory's owner, if you are root). All else that it writes is gone at the end.

        Several targets of one resolve are there together. Input, output, the terminal and the exit status are the command's:
        128 + N if signal N ended it, 127 if there is no such command. What is in no cache is built before.
        """
    )

    directory = StrOption(
        default="",
        help=softwrap(
            """
            A directory, below the build root unless it is absolute, that the command sees at the same place, and where it starts.
            Nothing that is mounted in it is seen. Default: none.
            """
        ),
    )
    read_only = BoolOption(default=False, help="The command cannot write into the directory.")
    network = BoolOption(default=False, help="Let the command use this machine's network.")
    args = ArgsListOption(example="dune build", passthrough=True, extra_help="Default: a shell.")

    @classmethod
    def activated(cls, union_membership: object) -> bool:
        return True


class OpamExec(Goal):
    """The goal `opam-exec`."""

    subsystem_cls = OpamExecSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


@goal_rule
async def opam_exec(console: Console, targets: Targets, subsystem: OpamExecSubsystem) -> OpamExec:
    """Build what is to be there, and run the command over it."""
    asked = asked_of(targets, "opam-exec")
    directory = None
    if subsystem.directory:
        directory = host_directory(subsystem.directory, not subsystem.read_only, "`--opam-exec-directory`")
    elif subsystem.read_only:
        raise EnteringError(
            "`--opam-exec-read-only` is for a directory, but the command is shown none: add `--directory`."
        )
    environment = await build_environment(EnvironmentRequest(asked.resolve, asked.names), **implicitly())
    command = () if subsystem.args else _SHELL
    request = await entering(environment, command, directory=directory, network=subsystem.network)
    terminal = await environment_vars(EnvironmentVarsRequest(["TERM"]))
    result = await run_interactive_process(interactive(request, subsystem.args, hidden(dict(terminal))))
    return OpamExec(result.exit_code)


def rules() -> list[object]:
    return [*collect_rules()]
