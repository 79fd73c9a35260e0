"""`pants tailor`: targets for opam files of the project, and for lockfiles that nothing reads."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Iterable

from pants.core.goals.tailor import PutativeTarget, PutativeTargets, PutativeTargetsRequest
from pants.engine.fs import PathGlobs
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from opam_oci.fields.opam import OpamFileField, OpamResolveField
from opam_oci.pants_engine.calls import contents_of_globs, paths_of_globs
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.projects import find_opam_projects
from opam_oci.resolves.targets import (
    DeclaredResolvesRequest,
    TargetsOfTypeRequest,
    find_declared_resolves,
    find_targets_of_type,
)
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.target_types import OpamPackagesTarget, OpamRequirementTarget
from opam_oci.target_types_projects import OpamProjectTarget


@dataclass(frozen=True)
class PutativeOpamTargetsRequest(PutativeTargetsRequest):
    """Asks which targets of this backend a project lacks."""

    pass


# The directory of a package in an opam repository, wherever it lies: packages/NAME/NAME.VERSION, or packages/NAME.VERSION.
_OF_REPOSITORY = re.compile(r"(?:^|/)packages/(?:[^/]+/)?[^/]+\.[^/]+/")
_OPAM_VERSION = re.compile(rb"(?m)^[ \t]*opam-version\s*:")


# What says, beside an opam file or one directory below, that its package can be built there.
_SOURCES = ("dune-project", "dune", "*.ml", "*.mli", "*.mll", "*.mly", "*.re", "*/dune", "*/*.ml", "*/*.mli", "*/*.re")


async def opam_files(request: PutativeOpamTargetsRequest, opam: OpamSubsystem) -> list[str]:
    """The files `*.opam` and `opam` that are a project's, not of a package in an opam repository."""
    paths = await paths_of_globs(request.path_globs("*.opam"))
    plain = await contents_of_globs(request.path_globs("opam"))
    # Files named opam are of many kinds.
    named_opam = [
        file.path for file in plain if _OPAM_VERSION.search(file.content) and not _OF_REPOSITORY.search(file.path)
    ]
    # The packages of an opam repository in this repository have opam files too, and are no project of ours.
    repositories = [f"{location.rstrip('/')}/" for location in opam.repositories.values() if "://" not in location]
    return [path for path in (*paths.files, *named_opam) if not path.startswith(tuple(repositories))]


async def directories_with_sources(directories: Iterable[str]) -> set[str]:
    """Those in which packages can be built."""
    wanted = sorted(set(directories))
    found = await paths_of_globs(PathGlobs([posixpath.join(one, name) for one in wanted for name in _SOURCES]))
    below = {posixpath.dirname(path) for path in found.files}
    return set(wanted).intersection({*below, *map(posixpath.dirname, below)})


def project_target(directory: str, paths: Iterable[str]) -> PutativeTarget:
    """An `opam_project` for the opam files of a directory."""
    return PutativeTarget.for_target_type(
        OpamProjectTarget,
        path=directory,
        name=posixpath.basename(directory) or "root",
        triggering_sources=sorted(map(posixpath.basename, paths)),
    )


def requirement_target(path: str) -> PutativeTarget:
    """An `opam_requirement` for an opam file."""
    name = posixpath.basename(path)
    return PutativeTarget.for_target_type(
        OpamRequirementTarget,
        path=posixpath.dirname(path),
        name=name[: -len(".opam")] or name,
        triggering_sources=[name],
        kwargs={OpamFileField.alias: name},
    )


async def opam_file_targets(request: PutativeOpamTargetsRequest, opam: OpamSubsystem) -> list[PutativeTarget]:
    """For opam files that no requirement names and no project has among its sources: an `opam_project` where there is something
    to build, an `opam_requirement` for each elsewhere, and where a requirement names another opam file of the directory."""
    targets = await find_targets_of_type(TargetsOfTypeRequest(OpamRequirementTarget.alias), **implicitly())
    required = {target[OpamFileField].file_path for target in targets if target[OpamFileField].value is not None}
    projects = await find_opam_projects(**implicitly())
    matchers = [one.sources.filespec_matcher for resolve in projects.by_resolve.values() for one in resolve]
    files = [path for path in await opam_files(request, opam) if path not in required]
    owned = {path for matcher in matchers for path in matcher.matches(files)}
    by_directory: dict[str, list[str]] = {}
    for path in files:
        if path not in owned:
            by_directory.setdefault(posixpath.dirname(path), []).append(path)
    decided = {posixpath.dirname(path) for path in required if path is not None}
    buildable = await directories_with_sources(by_directory)
    found: list[PutativeTarget] = []
    roots: list[str] = []
    for directory, paths in sorted(by_directory.items()):
        # What lies below a project is among its sources.
        if any(root == "" or directory.startswith(f"{root}/") for root in roots):
            continue
        if directory in buildable and directory not in decided:
            roots.append(directory)
            found.append(project_target(directory, paths))
        else:
            found += map(requirement_target, paths)
    return found


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
