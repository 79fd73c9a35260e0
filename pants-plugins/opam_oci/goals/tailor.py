"""`pants tailor`: targets for opam files of the project, and for lockfiles that nothing reads."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from pants.core.goals.tailor import PutativeTarget, PutativeTargets, PutativeTargetsRequest
from pants.engine.fs import PathGlobs
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.fields.opam import OpamFileField, OpamResolveField
from opam_oci.pants_engine.calls import contents_of_globs, paths_of_globs
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.targets import (
    DeclaredResolvesRequest,
    TargetsOfTypeRequest,
    find_declared_resolves,
    find_targets_of_type,
)
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.target_types import OpamPackagesTarget, OpamRequirementTarget


@dataclass(frozen=True)
class PutativeOpamTargetsRequest(PutativeTargetsRequest):
    """Asks which targets of this backend a project lacks."""

    pass


# The directory of a package in an opam repository, wherever it lies: packages/NAME/NAME.VERSION, or packages/NAME.VERSION.
_OF_REPOSITORY = re.compile(r"(?:^|/)packages/(?:[^/]+/)?[^/]+\.[^/]+/")
_OPAM_VERSION = re.compile(rb"(?m)^[ \t]*opam-version\s*:")


async def opam_file_targets(request: PutativeOpamTargetsRequest, opam: OpamSubsystem) -> list[PutativeTarget]:
    """An `opam_requirement` for each file `*.opam` or `opam` that no target names."""
    targets = await find_targets_of_type(TargetsOfTypeRequest(OpamRequirementTarget.alias), **implicitly())
    owned = {target[OpamFileField].file_path for target in targets if target[OpamFileField].value is not None}
    paths = await paths_of_globs(request.path_globs("*.opam"))
    plain = await contents_of_globs(request.path_globs("opam"))
    # Files named opam are of many kinds.
    named_opam = [
        file.path for file in plain if _OPAM_VERSION.search(file.content) and not _OF_REPOSITORY.search(file.path)
    ]
    # The packages of an opam repository in this repository have opam files too, and are no project of ours.
    repositories = [f"{location.rstrip('/')}/" for location in opam.repositories.values() if "://" not in location]
    return [
        PutativeTarget.for_target_type(
            OpamRequirementTarget,
            path=posixpath.dirname(path),
            name=posixpath.basename(path)[: -len(".opam")] or posixpath.basename(path),
            triggering_sources=[posixpath.basename(path)],
            kwargs={OpamFileField.alias: posixpath.basename(path)},
        )
        for path in (*paths.files, *named_opam)
        if path not in owned and not path.startswith(tuple(repositories))
    ]


async def lockfile_targets(request: PutativeOpamTargetsRequest, opam: OpamSubsystem) -> list[PutativeTarget]:
    """An `opam_packages` beside each lockfile of `[opam].resolves` that exists and that none generates targets from."""
    declared = await find_declared_resolves(DeclaredResolvesRequest(OpamPackagesTarget.alias), **implicitly())
    read = {name or opam.default_resolve for name in declared.names}
    unread = {posixpath.normpath(path): resolve for resolve, path in opam.resolves.items() if resolve not in read}
    paths = await paths_of_globs(PathGlobs(sorted(unread)))
    return [
        PutativeTarget.for_target_type(
            OpamPackagesTarget,
            path=posixpath.dirname(path),
            name=unread[path],
            triggering_sources=[],
            kwargs={} if unread[path] == opam.default_resolve else {OpamResolveField.alias: unread[path]},
        )
        for path in paths.files
        if posixpath.dirname(path) in request.dirs
    ]


@rule(desc="Determine candidate opam targets to create", level=LogLevel.DEBUG)
async def find_putative_targets(request: PutativeOpamTargetsRequest, opam: OpamSubsystem) -> PutativeTargets:
    """The targets that the options of `[opam]` allow `tailor` to add."""
    found: list[PutativeTarget] = []
    if opam.tailor_requirements:
        found.extend(await opam_file_targets(request, opam))
    if opam.tailor_packages:
        found.extend(await lockfile_targets(request, opam))
    return PutativeTargets(found)


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(PutativeTargetsRequest, PutativeOpamTargetsRequest)]
