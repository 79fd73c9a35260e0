"""`run` for packages: a program of theirs, over their layers, without an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from pants.core.goals.run import RunFieldSet, RunInSandboxBehavior, RunRequest
from pants.util.logging import LogLevel

from opam_oci.entering.command import PROGRAMS, HostDirectory, entering, host_directory
from opam_oci.entering.environment import EnvironmentRequest, build_environment
from opam_oci.entering.errors import EnteringError
from opam_oci.fields.opam import OpamPackageNameField, OpamPackageVersionField, OpamResolveField
from opam_oci.fields.projects import OpamExecutableField
from opam_oci.layers.contents import ContentsRequest, Entry, contents_of, list_contents
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.subsystems.opam_run import OpamRunSubsystem


@dataclass(frozen=True)
class OpamProgramRunFieldSet(RunFieldSet):
    required_fields = (OpamPackageNameField, OpamPackageVersionField, OpamResolveField)
    run_in_sandbox_behavior = RunInSandboxBehavior.NOT_SUPPORTED

    package: OpamPackageNameField
    version: OpamPackageVersionField
    resolve: OpamResolveField
    executable: OpamExecutableField


def programs_among(entries: Iterable[Entry]) -> list[str]:
    """The names of the programs that a layer has in the switch's bin, sorted."""
    found = (entry for entry in entries if entry.path.rpartition("/")[0] == PROGRAMS and entry.kind != "directory")
    return sorted(
        entry.path.rpartition("/")[2] for entry in found if entry.kind == "link" or int(entry.mode, 8) & 0o111
    )


def choose(field_set: OpamProgramRunFieldSet, programs: list[str]) -> str:
    """The program to run. Raises EnteringError where none is meant."""
    address, name, wanted = field_set.address, field_set.package.value, field_set.executable.value
    listed = f"it installs {', '.join(f'`{program}`' for program in programs)}" if programs else "it installs none"
    if wanted:
        if wanted in programs:
            return wanted
        raise EnteringError(
            f"The `executable` field in target {address} is `{wanted}`, which is no program of {name}: {listed}."
        )
    if len(programs) == 1:
        return programs[0]
    if name in programs:
        return name
    several = "has several programs, and none has its name" if programs else "has no program to run"
    how = f" `opam-exec {address} -- {programs[0]}` runs one of them." if programs else ""
    raise EnteringError(f"{address} {several}: {listed}.{how}")


def shown(options: OpamRunSubsystem) -> HostDirectory | None:
    """The directory that programs see. Raises EnteringError."""
    if not options.directory:
        return None
    return host_directory(options.directory, options.writable, "`[opam-run].directory`")


@rule(desc="Prepare to run a program of an opam package", level=LogLevel.DEBUG)
async def run_program(field_set: OpamProgramRunFieldSet, options: OpamRunSubsystem) -> RunRequest:
    """How to run it. Raises EnteringError, LayerError."""
    directory = shown(options)
    name = field_set.package.value
    environment = await build_environment(EnvironmentRequest(field_set.resolve.value or "", (name,)), **implicitly())
    layer = environment.layer_of(name)
    contents = await contents_of(layer, await list_contents(ContentsRequest(layer), **implicitly()))
    program = choose(field_set, programs_among(contents.entries))
    return await entering(environment, [f"/{PROGRAMS}/{program}"], directory=directory, network=options.network)


def rules() -> list[object]:
    return [*collect_rules(), *OpamProgramRunFieldSet.rules()]
