"""The run of the sandbox tool's `enter`: a command over built packages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

from pants.base.build_environment import get_buildroot
from pants.core.goals.run import RunRequest
from pants.engine.fs import CreateDigest

from opam_oci.entering.environment import BuiltEnvironment
from opam_oci.entering.errors import EnteringError
from opam_oci.host.programs import find_python
from opam_oci.pants_engine.calls import create_digest
from opam_oci.pants_engine.rules import implicitly
from opam_oci.sandbox.process import STORE, entering_request, layer_paths, request_file
from opam_oci.sandbox.tool import find_sandbox_tool

if TYPE_CHECKING:
    from opam_sandbox.entering.requests import EnterRequest

# Where a switch has its programs, and where a command starts that is shown no directory.
PROGRAMS = "home/opam/.opam/default/bin"
HOME = "/home/opam"


@dataclass(frozen=True)
class HostDirectory:
    """A directory of this machine, by its absolute path, that a command sees at the same place."""

    path: str
    writable: bool


def host_directory(path: str, writable: bool, what: str) -> HostDirectory:
    """A directory, below the build root if its path is relative. what: what names it. Raises EnteringError."""
    absolute = os.path.normpath(os.path.join(get_buildroot(), os.path.expanduser(path)))
    if not os.path.isdir(absolute):
        raise EnteringError(f"{what} is {path!r}, but there is no directory {absolute}.")
    return HostDirectory(absolute, writable)


async def entering(
    environment: BuiltEnvironment,
    command: Sequence[str],
    *,
    directory: HostDirectory | None,
    cwd: str = "",
    network: bool = False,
) -> RunRequest:
    """How to run a command over packages. cwd: where it starts, by default in the directory."""
    shown = [] if directory is None else [directory]
    values: EnterRequest = {
        "store": STORE,
        "layers": layer_paths(environment.layers),
        "command": list(command),
        "mounts": [{"source": one.path, "target": one.path, "writable": one.writable} for one in shown],
        "cwd": cwd or (HOME if directory is None else directory.path),
        "env": [],
        "network": network,
    }
    inputs = await create_digest(CreateDigest([request_file(values, environment.layers)]))
    tool = await find_sandbox_tool(**implicitly())
    return entering_request(tool, find_python(), environment.layers, inputs)
