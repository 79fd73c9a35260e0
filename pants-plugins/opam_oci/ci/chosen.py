"""Which packages `opam-ci` is about, and with which resolves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from pants.engine.addresses import Addresses
from pants.engine.target import Target

from opam_oci.fields.opam import OpamResolveField
from opam_oci.fields.projects import OpamProjectFileField
from opam_oci.pants_engine.calls import targets_of
from opam_oci.pants_engine.rules import implicitly
from opam_oci.resolves.projects import OpamProject, OpamProjects, find_opam_projects, package_of_path
from opam_oci.target_types_projects import OpamLocalPackageTarget, OpamProjectTarget

NO_PROJECTS = (
    f"`opam-ci` is for `{OpamProjectTarget.alias}` targets, such as `src/hello:project`, and for "
    f"`{OpamLocalPackageTarget.alias}` targets, such as `src/hello:project#hello`; the command line names none."
)


class NoProjectsError(Exception):
    """No target on the command line is of a project."""


@dataclass(frozen=True)
class ChosenPackage:
    """A project's package in a resolve. path: of its opam file, in the build root. subject: its address, for reports. target:
    None where the lockfile does not have it."""

    resolve: str
    path: str
    subject: str
    target: Target | None


@dataclass(frozen=True)
class Chosen:
    """packages: sorted by resolve and path. resolves, directories: of the projects, sorted; a project that has a problem has no
    packages."""

    packages: tuple[ChosenPackage, ...]
    resolves: tuple[str, ...]
    directories: tuple[str, ...]
    projects: OpamProjects


def subject_of(project: OpamProject, path: str) -> str:
    """The address of a package that no lockfile has."""
    name = package_of_path(path)
    return project.address.create_generated(name).spec if name else path


async def choose_packages(targets: Iterable[Target]) -> Chosen:
    """What targets mean: an `opam_project` all its packages. There are no resolves where none of them is of a project."""
    named = tuple(targets)
    whole = {target.address for target in named if isinstance(target, OpamProjectTarget)}
    expanded = await targets_of(Addresses(sorted(whole)))
    known = {
        (target[OpamResolveField].value or "", target[OpamProjectFileField].value): target
        for target in (*named, *expanded)
        if target.has_field(OpamProjectFileField)
    }
    projects = await find_opam_projects(**implicitly())
    of_whole = [one for found in projects.by_resolve.values() for one in found if one.address in whole]
    subjects = {(one.resolve, path): subject_of(one, path) for one in of_whole for path in one.files}
    subjects.update({key: target.address.spec for key, target in known.items()})
    return Chosen(
        tuple(ChosenPackage(*key, subject, known.get(key)) for key, subject in sorted(subjects.items())),
        tuple(sorted({resolve for resolve, _ in known} | {one.resolve for one in of_whole})),
        tuple(sorted({one.directory for one in of_whole} | {one.address.spec_path for one in known.values()})),
        projects,
    )


def without_lower_bounds(chosen: Chosen, oldest: Iterable[str]) -> dict[str, str]:
    """Why nothing is built with the oldest versions, by the path of an opam file; without those of which something is.

    oldest: the resolves that prefer these."""
    resolves = frozenset(oldest)
    covered = {one.path for one in chosen.packages if one.resolve in resolves}
    reasons = {}
    for path in sorted({one.path for one in chosen.packages} - covered):
        others = [chosen.projects.of_file(resolve, path) for resolve in sorted(resolves)]
        left_out = [one.address.spec for one in others if one is not None]
        reasons[path] = (
            f"not checked: this run leaves out {', '.join(left_out)}"
            if left_out
            else "not checked: no resolve of it is in `[opam].resolves_prefer_oldest`"
        )
    return reasons
