"""The OCaml projects of this repository, found without reading a lockfile or expanding a target."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from dataclasses import dataclass
from typing import Iterable, Mapping

from pants.core.target_types import TargetGeneratorSourcesHelperSourcesField
from pants.engine.addresses import Address
from pants.engine.fs import PathGlobs
from pants.engine.internals.parametrize import Parametrize
from pants.engine.target import InvalidFieldException, InvalidTargetException, Target
from pants.util.frozendict import FrozenDict

from opam_oci.fields.opam import OpamResolveField
from opam_oci.fields.projects import (
    OpamProjectDuneLockField,
    OpamProjectFilesField,
    OpamProjectSourcesField,
    names_a_package,
)
from opam_oci.pants_engine.calls import address_families, contents_of_globs, paths_of_globs
from opam_oci.pants_engine.rules import collect_rules, concurrently, implicitly, rule
from opam_oci.resolves.targets import declared, everything
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.target_types_projects import OpamProjectTarget

# Of a dune-project: whether dune writes opam files, and of which packages. A comment ends with its line.
_COMMENT = re.compile(r";[^\n]*")
_GENERATES = re.compile(r"\(\s*generate_opam_files(?:\s+true)?\s*\)")
_PACKAGE = re.compile(r"\(\s*package\s*\(\s*name\s+\"?([A-Za-z0-9_+-]+)")


@dataclass(frozen=True)
class OpamProject:
    """An `opam_project` for one resolve. `address`: of the generator, with its parameters; `files`: its opam files, as paths in
    the build root, sorted; `sources`: all of its files; `problem`: why it cannot be used, or ""; `dune_lock`: a directory in
    there, or ""."""

    address: Address
    resolve: str
    files: tuple[str, ...]
    sources: OpamProjectSourcesField
    problem: str = ""
    dune_lock: str = ""

    @property
    def directory(self) -> str:
        """The project's root, in the build root."""
        return self.address.spec_path

    def checked(self) -> OpamProject:
        """The project itself. Raises InvalidTargetException if it has a problem."""
        if self.problem:
            raise InvalidTargetException(self.problem)
        return self


@dataclass(frozen=True)
class OpamProjects:
    """All projects by their resolves, sorted by address."""

    by_resolve: FrozenDict[str, tuple[OpamProject, ...]]

    def of_file(self, resolve: str, path: str) -> OpamProject | None:
        """The project of a resolve that builds the package of an opam file."""
        return next((one for one in self.by_resolve.get(resolve, ()) if path in one.files), None)


@dataclass(frozen=True)
class ProjectFilesRequest:
    """Which opam files a project has."""

    address: Address
    sources: OpamProjectSourcesField
    opam_files: OpamProjectFilesField
    dune_lock: str = ""


@dataclass(frozen=True)
class ProjectFiles:
    """Opam files as paths in the build root, sorted, or what is wrong with them."""

    files: tuple[str, ...] = ()
    problem: str = ""


async def how_dune_writes(directory: str, name: str) -> str:
    """What to do about an opam file (`name`, or "" for any) that is not there; "" where dune does not write it."""
    for file in await contents_of_globs(PathGlobs([posixpath.join(directory, "dune-project")])):
        text = _COMMENT.sub("", file.content.decode("utf-8", "replace"))
        packages = [f"{package}.opam" for package in _PACKAGE.findall(text)]
        if _GENERATES.search(text) and (not name or name in packages or not packages):
            written = " ".join([name] if name else packages or ["NAME.opam"])
            return (
                f" Its dune-project has `generate_opam_files`: `dune build {written}` in {directory or '.'} writes it."
            )
    return ""


async def default_files(request: ProjectFilesRequest) -> ProjectFiles:
    """The opam files right in a project's directory."""
    directory = request.address.spec_path
    paths = await paths_of_globs(PathGlobs([posixpath.join(directory, name) for name in ("*.opam", "opam")]))
    found = [path for path in paths.files if names_a_package(path)]
    if not found:
        hint = await how_dune_writes(directory, "")
        return ProjectFiles(
            problem=f"The `{OpamProjectTarget.alias}` target {request.address} has no opam file: neither NAME.opam nor opam is "
            f"in {directory or 'the build root'}, or .gitignore or `[GLOBAL].pants_ignore` hides it from Pants.{hint}"
        )
    owned = sorted(request.sources.filespec_matcher.matches(found))
    if not owned:
        return ProjectFiles(
            problem=f"The `{OpamProjectSourcesField.alias}` field in target {request.address} leaves out the opam file "
            f"{', '.join(sorted(found))}, without which its package is not built: let it match."
        )
    return ProjectFiles(tuple(owned))


async def named_files(request: ProjectFilesRequest, names: Iterable[str]) -> ProjectFiles:
    """The opam files that a project's field names."""
    directory = request.address.spec_path
    wanted = [posixpath.join(directory, name) for name in names]
    paths = await paths_of_globs(PathGlobs(wanted))
    field = f"The `{OpamProjectFilesField.alias}` field in target {request.address} names"
    for path in wanted:
        if path not in paths.files:
            hint = await how_dune_writes(directory, posixpath.relpath(path, directory or "."))
            return ProjectFiles(
                problem=f"{field} {path}, which does not exist, or .gitignore or `[GLOBAL].pants_ignore` hides it from Pants."
                f"{hint}"
            )
    left_out = sorted(set(wanted).difference(request.sources.filespec_matcher.matches(wanted)))
    if left_out:
        return ProjectFiles(
            problem=f"{field} {left_out[0]}, which the `{OpamProjectSourcesField.alias}` field leaves out: let it match."
        )
    return ProjectFiles(tuple(sorted(wanted)))


@rule
async def find_project_files(request: ProjectFilesRequest) -> ProjectFiles:
    """The opam files of one project. What else is in its directory is not looked at."""
    if request.opam_files.value is None:
        return await default_files(request)
    return await named_files(request, request.opam_files.value)


def opam_file_address(project: OpamProject, path: str) -> Address:
    """The address of the target that owns one opam file of a project, and no other file."""
    return project.address.create_file(path[len(project.directory) :].lstrip("/"))


def owns_an_opam_file(target: Target) -> bool:
    """Whether it is one of the targets that an `opam_project` has for its opam files: whoever names the project means none."""
    return target.has_field(TargetGeneratorSourcesHelperSourcesField)


def package_of_path(path: str) -> str:
    """A package's name as the path of its opam file gives it; "" where the file's field `name` or its directory does."""
    directory, _, name = path.rpartition("/")
    name = name[: -len(".locked")] if name.endswith(".locked") else name
    for candidate in (name, directory.rpartition("/")[2]):
        if candidate.endswith(".opam"):
            return candidate[: -len(".opam")]
    return ""


def with_conflicts(projects: Iterable[OpamProject]) -> tuple[OpamProject, ...]:
    """The projects of one resolve; those that have an opam file or a package in common have a problem."""
    ordered = sorted(projects, key=lambda project: project.address)
    claims: dict[str, list[tuple[OpamProject, str]]] = {}
    for project in ordered:
        for path in project.files:
            claims.setdefault(package_of_path(path) or path, []).append((project, path))
    problems: dict[Address, str] = {}
    for owners in claims.values():
        for (one, path), (two, other) in zip(owners, owners[1:]):
            text = (
                f"{path} (of {one.address}) and {other} (of {two.address}) are opam files of one package in the resolve "
                f"`{one.resolve}`: give one of the targets another `resolve`, or leave the file out of its "
                f"`{OpamProjectFilesField.alias}`."
            )
            problems.update({one.address: text, two.address: text})
    return tuple(
        dataclasses.replace(project, problem=project.problem or problems.get(project.address, ""))
        for project in ordered
    )


@rule
async def find_opam_projects(opam: OpamSubsystem) -> OpamProjects:
    """Look at all `opam_project` targets of the project, once. Whoever uses one that has a problem raises it."""
    families = await address_families(everything(f"the search for `{OpamProjectTarget.alias}` targets"))
    requests: list[tuple[str, ProjectFilesRequest]] = []
    by_resolve: dict[str, list[OpamProject]] = {}
    for generator, adaptor in declared(families, OpamProjectTarget.alias):
        for address, fields in Parametrize.expand(generator, dict(adaptor.kwargs)):
            try:
                resolve = OpamResolveField(fields.get(OpamResolveField.alias), address).value_or_default(opam)
                requests.append((resolve, project_files_request(address, fields)))
            except InvalidFieldException as error:
                resolve = str(fields.get(OpamResolveField.alias) or opam.default_resolve)
                nothing = OpamProjectSourcesField((), address)
                by_resolve.setdefault(resolve, []).append(OpamProject(address, resolve, (), nothing, str(error)))
    found = await concurrently(find_project_files(request, **implicitly()) for _, request in requests)
    for (resolve, request), files in zip(requests, found):
        project = OpamProject(request.address, resolve, files.files, request.sources, files.problem, request.dune_lock)
        by_resolve.setdefault(resolve, []).append(project)
    return OpamProjects(FrozenDict({resolve: with_conflicts(projects) for resolve, projects in by_resolve.items()}))


def project_files_request(address: Address, fields: Mapping[str, object]) -> ProjectFilesRequest:
    """The request for a project that a BUILD file says so. Raises InvalidFieldException."""
    return ProjectFilesRequest(
        address,
        OpamProjectSourcesField(fields.get(OpamProjectSourcesField.alias), address),
        OpamProjectFilesField(fields.get(OpamProjectFilesField.alias), address),
        OpamProjectDuneLockField(fields.get(OpamProjectDuneLockField.alias), address).value or "",
    )


def rules() -> list[object]:
    return [*collect_rules()]
