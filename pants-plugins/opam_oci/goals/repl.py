"""`repl` for packages: OCaml's toplevel, or utop, where they are installed."""

from __future__ import annotations

from typing import ClassVar

from pants.core.goals.repl import ReplImplementation, ReplRequest
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.entering.asked import asked_of, is_package
from opam_oci.entering.command import entering
from opam_oci.entering.environment import EnvironmentRequest, build_environment
from opam_oci.entering.errors import EnteringError
from opam_oci.goals.run_program import shown
from opam_oci.layers.build_plan import BuildPlanRequest, plan_build
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import OpamLock, regenerate_command
from opam_oci.subsystems.opam_run import OpamRunSubsystem

UTOP, OCAML, BEST = "utop", "ocaml", "opam"

# `#require` is there from the first line. A `.ocamlinit` in the current directory goes before this one.
_WITH_FINDLIB = r"""{
  top=/home/opam/.opam/default/lib/toplevel
  [ ! -e "$top" ] || echo "#directory \"$top\";;"
  echo '#use "topfind";;'
} > "$HOME/.ocamlinit"
exec ocaml "$@"
"""


class _OpamRepl(ReplImplementation):
    """Of packages; Pants before 2.24 does not ask whether it takes arguments."""

    supports_args: ClassVar[bool] = True


class UtopRepl(_OpamRepl):
    name = UTOP


class OcamlRepl(_OpamRepl):
    name = OCAML


class BestRepl(_OpamRepl):
    """utop where the resolve has it, else OCaml's own."""

    name = BEST


def toplevel(shell: str, lock: OpamLock) -> tuple[list[str], list[str]]:
    """The command of a toplevel, and what of the resolve it needs beside what is asked for. Raises EnteringError."""
    chosen = shell if shell != BEST else (UTOP if UTOP in lock.packages else OCAML)
    if chosen not in lock.packages:
        raise EnteringError(
            f"The resolve `{lock.resolve}` has no {chosen}: name it in an `opam_requirement` and run "
            f"`{regenerate_command(lock.resolve)}`, or use another `--repl-shell`."
        )
    if chosen == UTOP:
        return ["utop"], ["utop"]
    if "ocamlfind" in lock.packages:
        return ["sh", "-c", _WITH_FINDLIB, "ocaml"], ["ocaml", "ocamlfind"]
    return ["ocaml"], ["ocaml"]


async def repl_of(implementation: _OpamRepl, options: OpamRunSubsystem) -> ReplRequest:
    """How to run it. Raises EnteringError, LayerError."""
    asked = asked_of([target for target in implementation.targets if is_package(target)], "repl")
    directory = shown(options)
    plan = await plan_build(BuildPlanRequest(asked.resolve), **implicitly())
    command, needed = toplevel(implementation.name, plan.lock)
    names = tuple(sorted({*asked.names, *needed}))
    environment = await build_environment(EnvironmentRequest(asked.resolve, names), **implicitly())
    request = await entering(environment, command, directory=directory, network=options.network)
    return ReplRequest(
        digest=request.digest,
        args=request.args,
        extra_env=request.extra_env,
        immutable_input_digests=request.immutable_input_digests,
        append_only_caches=request.append_only_caches,
    )


@rule(desc="Prepare utop", level=LogLevel.DEBUG)
async def utop_repl(implementation: UtopRepl, options: OpamRunSubsystem) -> ReplRequest:
    """utop, over packages."""
    return await repl_of(implementation, options)


@rule(desc="Prepare OCaml's toplevel", level=LogLevel.DEBUG)
async def ocaml_repl(implementation: OcamlRepl, options: OpamRunSubsystem) -> ReplRequest:
    """OCaml's own toplevel, over packages."""
    return await repl_of(implementation, options)


@rule(desc="Prepare a toplevel", level=LogLevel.DEBUG)
async def best_repl(implementation: BestRepl, options: OpamRunSubsystem) -> ReplRequest:
    """What the resolve has."""
    return await repl_of(implementation, options)


def rules() -> list[object]:
    shells = (UtopRepl, OcamlRepl, BestRepl)
    return [*collect_rules(), *(UnionRule(ReplImplementation, shell) for shell in shells)]
