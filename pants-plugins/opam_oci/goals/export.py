"""`export --resolve=NAME` for opam: a resolve's packages as a switch that editors and programs of this machine use.

Pants removes a result's directory, writes it anew and runs the result's commands. So the switch itself is not in there, but
beside: the directory has links to it, and the tool, which puts a new switch in the place of the old one when it is whole.

    dist/export/opam/NAME/            what Pants writes: `switch`, a link; `env.sh`, a link to the switch's; `.export/`, which the
                                      tool removes: itself, its request, the layers
    dist/export/opam/.switches/NAME/switch/
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

from pants.base.build_environment import get_buildroot
from pants.core.goals.export import (
    ExportRequest,
    ExportResult,
    ExportResults,
    ExportSubsystem,
    PostProcessingCommand,
)
from pants.core.util_rules.distdir import DistDir
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.fs import AddPrefix, CreateDigest, Digest, MergeDigests, SymlinkEntry
from pants.engine.unions import UnionRule

from opam_oci.exporting.host_match import ExportHostError
from opam_oci.exporting.switch import Switch, SwitchRequest, find_switch
from opam_oci.host.programs import find_python
from opam_oci.pants_engine.calls import add_prefix, create_digest, merge_digests
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.sandbox.process import REQUEST_FILE, layer_paths, request_file
from opam_oci.sandbox.tool import find_sandbox_tool
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_export import OpamExportSubsystem

# Below dist/export/. Of a resolve's directory, the one that goes when the switch is there.
_DIRECTORY = "opam"
_SWITCHES = ".switches"
_MADE_BY = ".export"

# A name that is a directory's, and in PATHs.
_PLAIN = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class ExportOpamRequest(ExportRequest):
    """Asks for the opam resolves that `--resolve` names."""


@dataclass(frozen=True)
class ExportResolveRequest(EngineAwareParameter):
    """Asks how to export a resolve into `directory`, the absolute path of what is dist/export/opam."""

    resolve: str
    directory: str

    def debug_hint(self) -> str:
        return self.resolve


@dataclass(frozen=True)
class ExportedResolve:
    """Its files, and what is run when they are written."""

    digest: Digest
    argv: tuple[str, ...]


def export_request(request: ExportResolveRequest, switch: Switch, check_host: bool) -> dict[str, object]:
    """What the tool is asked for."""
    own = os.path.join(request.directory, request.resolve)
    return {
        "layers": layer_paths(switch.layers),
        "resolve": request.resolve,
        "prefix": os.path.join(own, "switch"),
        "tree": os.path.join(request.directory, _SWITCHES, request.resolve, "switch"),
        "made_by": os.path.join(own, _MADE_BY),
        "variables": [f"{name}={value}" for name, value in switch.variables],
        "depexts": {package.full_name: list(package.depexts) for package in switch.packages if package.depexts},
        "compiler": switch.compiler,
        "check_host": check_host,
    }


@rule
async def prepare_export(request: ExportResolveRequest, options: OpamExportSubsystem) -> ExportedResolve:
    """Build the packages. Raises ExportHostError, ExportFailedError, LayerError."""
    if not _PLAIN.fullmatch(request.resolve):
        raise ExportHostError(
            f"The opam resolve {request.resolve!r} cannot be exported: its name becomes a directory's, with letters, digits "
            "and any of _.+- in it."
        )
    switch = await find_switch(SwitchRequest(request.resolve), **implicitly())
    tool = await find_sandbox_tool(**implicitly())
    file = request_file(export_request(request, switch, options.check_host), switch.layers)
    inside = [
        await create_digest(CreateDigest([file])),
        await add_prefix(AddPrefix(tool.parts["export"], "__tool")),
    ]
    for path, layer in zip(layer_paths(switch.layers), switch.layers):
        inside.append(await add_prefix(AddPrefix(layer.digest, path)))
    links = CreateDigest(
        [
            SymlinkEntry("switch", f"../{_SWITCHES}/{request.resolve}/switch"),
            SymlinkEntry("env.sh", "switch/env.sh"),
        ]
    )
    made_by = await add_prefix(AddPrefix(await merge_digests(MergeDigests(inside)), _MADE_BY))
    digest = await merge_digests(MergeDigests([made_by, await create_digest(links)]))
    sha256 = hashlib.sha256(file.content).hexdigest()
    # Pants runs it in the build root.
    there = ("/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", f"{{digest_root}}/{_MADE_BY}")
    argv = (*there, find_python(), "-sSEB", "__tool", "export", REQUEST_FILE, "--sha256", sha256)
    return ExportedResolve(digest, argv)


@rule(desc="Export opam resolves")
async def export_opam(
    request: ExportOpamRequest, goal: ExportSubsystem, opam: OpamSubsystem, dist_dir: DistDir
) -> ExportResults:
    """Those of `--resolve` that are in `[opam].resolves`; the others are somebody else's."""
    directory = os.path.join(get_buildroot(), dist_dir.relpath, "export", _DIRECTORY)
    resolves = [resolve for resolve in dict.fromkeys(goal.resolve) if resolve in opam.resolves]
    exported = await concurrently(
        prepare_export(ExportResolveRequest(resolve, directory), **implicitly()) for resolve in resolves
    )
    return ExportResults(
        ExportResult(
            f"the switch of the opam resolve `{resolve}`",
            os.path.join(_DIRECTORY, resolve),
            digest=one.digest,
            post_processing_cmds=[PostProcessingCommand(one.argv, {"LANG": "C.UTF-8"})],
            resolve=resolve,
        )
        for resolve, one in zip(resolves, exported)
    )


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(ExportRequest, ExportOpamRequest)]
