"""The files that a package of this repository is built from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pants.engine.fs import Directory, FileEntry
from pants.engine.target import InvalidTargetException
from pants.option.global_options import UnmatchedBuildFileGlobs

from opam_oci.pants_engine.calls import get_digest_entries, snapshot_of_globs
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import LockfileError, regenerate_command
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.resolves.projects import find_opam_projects
from opam_oci.target_types_projects import OpamProjectTarget


@dataclass(frozen=True)
class ProjectTreeRequest:
    """Asks for the sources of a package, which the resolve's lockfile says is built from this repository."""

    resolve: str
    package: str


@dataclass(frozen=True)
class ProjectTree:
    """Files by their paths relative to the project's root, sorted."""

    entries: tuple[FileEntry, ...]


@rule
async def find_project_tree(request: ProjectTreeRequest, unmatched: UnmatchedBuildFileGlobs) -> ProjectTree:
    """The sources of a package's project. Raises LockfileError if the lockfile is not of today's targets, and
    InvalidTargetException where the target has a problem."""
    lock = await read_opam_lockfile(OpamLockRequest(request.resolve), **implicitly())
    package = lock.packages.get(request.package)
    if package is None or not package.local:
        raise LockfileError(lock.path, f"it has no package {request.package} that is built from this repository.")
    projects = await find_opam_projects(**implicitly())
    project = projects.of_file(request.resolve, package.local)
    if project is None:
        raise LockfileError(
            lock.path,
            f"{package.full_name} is built from the project of {package.local}, but no `{OpamProjectTarget.alias}` target of the "
            f"resolve has that opam file now. Add one, or bring the lockfile up to date with "
            f"`{regenerate_command(request.resolve)}`.",
        )
    # A glob that matches nothing is a warning or an error, as for all targets.
    snapshot = await snapshot_of_globs(project.checked().sources.path_globs(unmatched))
    found = await get_digest_entries(snapshot.digest)
    prefix = f"{project.directory}/" if project.directory else ""
    entries = []
    for entry in found:
        if isinstance(entry, Directory):
            continue  # an empty one, or one whose files are left out: git has none
        if not isinstance(entry, FileEntry):
            raise InvalidTargetException(
                f"{entry.path} is among the sources of {project.address}, but is no file: only files are built from."
            )
        entries.append(dataclasses.replace(entry, path=entry.path[len(prefix) :]))
    return ProjectTree(tuple(sorted(entries, key=lambda entry: entry.path)))


def rules() -> list[object]:
    return [*collect_rules()]
