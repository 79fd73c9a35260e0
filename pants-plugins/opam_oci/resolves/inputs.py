"""What BUILD files and options ask of an opam resolve."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pants.engine.addresses import Address, AddressInput
from pants.engine.fs import PathGlobs
from pants.engine.target import InvalidTargetException, Target
from pants.util.frozendict import FrozenDict

from opam_oci.fields.opam import OpamConstraintsField, OpamFileField, OpamRequirementsField, OpamResolveField
from opam_oci.pants_engine.calls import contents_of_globs, parse_address, paths_of_globs
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.dune_lock import bounds_of_dune_lock
from opam_oci.resolves.projects import OpamProject, find_opam_projects, package_of_path
from opam_oci.resolves.targets import TargetsOfTypeRequest, find_targets_of_type
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.target_types import OpamRequirementTarget


@dataclass(frozen=True)
class ResolveInputsRequest:
    """What BUILD files and options ask of an opam resolve."""

    resolve: str


@dataclass(frozen=True)
class SolverOptions:
    """A resolve's options that change opam's solution. `solver` is "" for opam's default."""

    with_test: bool = False
    with_doc: bool = False
    prefer_oldest: bool = False
    solver: str = ""

    def lines(self) -> tuple[str, ...]:
        """How the lockfile states them: those that are not the default, sorted."""
        named = ("prefer_oldest", "with_doc", "with_test")
        return (
            *(name for name in named if getattr(self, name)),
            *([f"solver={self.solver}"] if self.solver else []),
        )


@dataclass(frozen=True)
class LocalOpamFile:
    """An opam file of the project: `path` in the build root, `text` with undecodable bytes as surrogates; `target` names it.

    With `build`, the package is built from the sources in `directory`, its project's root; otherwise only what it depends on is
    asked for.
    """

    path: str
    content: bytes
    target: str = ""
    build: bool = False
    directory: str = ""

    @property
    def package(self) -> str:
        """The package's name as the path gives it; "" where the file's field `name` or its directory does."""
        return package_of_path(self.path)

    @property
    def text(self) -> str:
        """The file as text; bytes that are not UTF-8 become surrogates."""
        return self.content.decode("utf-8", "surrogateescape")

    def line(self) -> str:
        """How the lockfile states it."""
        return f"{self.path} sha256:{hashlib.sha256(self.content).hexdigest()}"


@dataclass(frozen=True)
class ResolveInputs:
    """Roots and bounds of a resolve, sorted, the base that it is for, and what else decides about its solution."""

    resolve: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    base: Address
    options: SolverOptions
    opam_files: tuple[LocalOpamFile, ...] = ()


@dataclass(frozen=True)
class RequirementTargets:
    """All `opam_requirement` targets, by their resolve."""

    by_resolve: FrozenDict[str, tuple[Target, ...]]


async def read_opam_files(
    files: list[tuple[Address, str]], projects: tuple[OpamProject, ...]
) -> tuple[LocalOpamFile, ...]:
    """The files that requirements name and those of projects, sorted by path; what is both is of a project.

    Raises InvalidTargetException for one that is not there.
    """
    targets = {path: str(address) for address, path in reversed(files)}
    builders = {path: project for project in projects for path in project.checked().files}
    contents = await contents_of_globs(PathGlobs(sorted({*targets, *builders})))
    found = {
        file.path: LocalOpamFile(
            file.path, file.content, str(builders[file.path].address), True, builders[file.path].directory
        )
        if file.path in builders
        else LocalOpamFile(file.path, file.content, targets[file.path])
        for file in contents
    }
    missing = [(address, path) for address, path in files if path not in found]
    if missing:
        address, path = missing[0]
        near = await paths_of_globs(PathGlobs([f"{path}.template", f"{path}/**"]))
        raise InvalidTargetException(
            f"The `{OpamFileField.alias}` field in target {address} names {path}, which does not exist"
            f"{_why_missing(path, near.files)}."
        )
    names: dict[str, str] = {}
    for path, file in sorted(found.items()):
        other = names.setdefault(file.package, path) if file.package else path
        if other != path:
            raise InvalidTargetException(
                f"{path} (of {file.target}) and {other} (of {found[other].target}) are opam files of one package in one resolve; "
                "give one of them another `resolve`."
            )
    return tuple(found[path] for path in sorted(found))


def _why_missing(path: str, near: tuple[str, ...]) -> str:
    """What probably became of a file that is not there."""
    if f"{path}.template" in near:
        return f", but its template does: `dune build {path}` writes it"
    if near:
        return f" as a file: it is a directory, with {', '.join(near[:3])} in it"
    return ", or .gitignore or `[GLOBAL].pants_ignore` hides it from Pants"


# Once for all resolves, of which there may be thousands.
@rule
async def find_requirement_targets(opam: OpamSubsystem) -> RequirementTargets:
    """Look at all `opam_requirement` targets of the project, once."""
    by_resolve: dict[str, list[Target]] = {}
    targets = await find_targets_of_type(TargetsOfTypeRequest(OpamRequirementTarget.alias), **implicitly())
    for target in targets:
        by_resolve.setdefault(target[OpamResolveField].value_or_default(opam), []).append(target)
    return RequirementTargets(FrozenDict({resolve: tuple(found) for resolve, found in by_resolve.items()}))


@rule
async def find_resolve_inputs(request: ResolveInputsRequest, opam: OpamSubsystem) -> ResolveInputs:
    """The roots, bounds, base and options of a resolve. Raises InvalidTargetException, UnknownResolveError."""
    targets = await find_requirement_targets(**implicitly())
    requirements: set[str] = set()
    constraints: set[str] = set()
    files: list[tuple[Address, str]] = []
    ocaml = opam.ocaml_of(request.resolve)
    for target in targets.by_resolve.get(request.resolve, ()):
        requirements.update("".join(r.split()) for r in target[OpamRequirementsField].value)
        path = target[OpamFileField].file_path
        if path is not None:
            files.append((target.address, path))
        constraints.update("".join(c.split()) for c in target[OpamConstraintsField].value)
    projects = await find_opam_projects(**implicitly())
    own = projects.by_resolve.get(request.resolve, ())
    opam_files = await read_opam_files(files, own)
    for project in own:
        constraints.update(await bounds_of_dune_lock(project))
    if ocaml is not None and (requirements or opam_files):
        requirements.add(ocaml)
    base = await parse_address(
        AddressInput.parse(opam.base_of(request.resolve), description_of_origin="`[opam].resolves_to_base`")
    )
    return ResolveInputs(
        resolve=request.resolve,
        requirements=tuple(sorted(requirements)),
        constraints=tuple(sorted(constraints)),
        base=base,
        options=SolverOptions(**opam.solver_options(request.resolve)),
        opam_files=opam_files,
    )


def rules() -> list[object]:
    return [*collect_rules()]
