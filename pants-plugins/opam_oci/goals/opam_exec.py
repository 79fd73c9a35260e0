"""`opam-exec`: a command where packages are installed."""

from __future__ import annotations

import os

from pants.base.build_environment import get_buildroot
from pants.engine.console import Console
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.target import Targets
from pants.option.option_types import ArgsListOption, BoolOption, StrOption
from pants.util.strutil import help_text, softwrap

from opam_oci.entering.asked import Asked, asked_of
from opam_oci.entering.command import HOME, HostDirectory, entering, host_directory
from opam_oci.entering.environment import EnvironmentRequest, build_environment
from opam_oci.entering.errors import EnteringError
from opam_oci.entering.project import names_needed
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
        Run a command where packages are installed: `opam-exec 3rdparty/opam:default#lwt -- ocamlfind list`, or
        `opam-exec src/hello:project -- dune build`.

        Of an `opam_package`, it and all that it depends on are there, as in an image of it. Of an `opam_project` or an
        `opam_local_package`, all that the project's packages depend on, for their tests as well where the resolve is in
        `[opam].resolves_with_test`, but not these themselves; and the project's directory is shown.

        The command runs as user opam, with the variables that opam gives there, those of packages (`setenv`) among them, and
        without network. It sees nothing of this machine but the directory that is shown, at the same place, and starts there.
        What it writes there stays, and belongs to you (to the directory's owner, if you are root). All else that it writes is
        gone at the end.

        Several targets of one resolve are there together. Input, output, the terminal and the exit status are the command's:
        128 + N if signal N ended it, 127 if there is no such command. What is in no cache is built before.
        """
    )

    directory = StrOption(
        default="",
        help=softwrap(
            """
            A directory, below the build root unless it is absolute, that the command sees at the same place, and where it starts:
            of a project in it in the project's own. Nothing that is mounted in it is seen. Default: the project's; none
            where no target is of a project.
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


def directory_of(subsystem: OpamExecSubsystem, asked: Asked) -> tuple[HostDirectory | None, str]:
    """What the command sees, and where it starts. Raises EnteringError."""
    writable = not subsystem.read_only
    if not subsystem.directory:
        if len(asked.projects) > 1:
            raise EnteringError(
                f"`opam-exec` shows one directory, but the command line names packages of several projects, in "
                f"{', '.join(asked.projects)}: name those of one, or the directory by `--directory`."
            )
        if asked.projects:
            own = host_directory(asked.projects[0], writable, "The project's directory")
            return own, own.path
        if subsystem.read_only:
            raise EnteringError("`--read-only` is for a directory, but the command is shown none: add `--directory`.")
        return None, HOME
    directory = host_directory(subsystem.directory, writable, "`--opam-exec-directory`")
    inside = [os.path.join(get_buildroot(), one) for one in asked.projects]
    if len(inside) == 1 and os.path.commonpath([inside[0], directory.path]) == directory.path:
        return directory, os.path.normpath(inside[0])
    return directory, directory.path


@goal_rule
async def opam_exec(console: Console, targets: Targets, subsystem: OpamExecSubsystem) -> OpamExec:
    """Build what is to be there, and run the command over it."""
    asked = asked_of(targets, "opam-exec")
    directory, cwd = directory_of(subsystem, asked)
    environment = await build_environment(EnvironmentRequest(asked.resolve, await names_needed(asked)), **implicitly())
    command = () if subsystem.args else _SHELL
    request = await entering(environment, command, directory=directory, cwd=cwd, network=subsystem.network)
    terminal = await environment_vars(EnvironmentVarsRequest(["TERM"]))
    result = await run_interactive_process(interactive(request, subsystem.args, hidden(dict(terminal))))
    return OpamExec(result.exit_code)


def rules() -> list[object]:
    return [*collect_rules()]
