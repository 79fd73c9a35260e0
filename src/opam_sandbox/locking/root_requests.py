"""The requests of the steps that solve and lock many roots, and what these hand on. Paths: as in `requests`."""

from typing import Dict, List, Literal, TypedDict

from opam_sandbox.locking.requests import KeptDeb, LockedFrom
from opam_sandbox.opam.package import PackageFields


class _RootSelection(TypedDict):
    packages: List[str]


class RootSelection(_RootSelection, total=False):
    """Roots: `packages` are names, patterns (`dune*`), versions (`lwt.5.6.1`) and bounds (`lwt>=5`); of each name the newest
    `latest` versions (1 by default). `available`, true by default: only versions that opam has as such in the base; they may
    have no solution."""

    latest: int
    available: bool


class _SolveRootsRequest(TypedDict):
    step: Literal["solve-roots"]
    store: str
    layers: List[str]
    prepared: str
    repositories: List[str]
    compilers: List[str]
    selection: RootSelection
    constraints: List[str]


class SolveRootsRequest(_SolveRootsRequest, total=False):
    """The step `solve-roots`: each root by itself with each of `compilers` (requirements; "" for none). Writes solutions.json.

    solver: the layer with the program that solves, over `layers`; without it opam is asked for each root, which takes seconds.
    """

    solver: str
    with_test: bool
    with_doc: bool
    prefer_oldest: bool


class _RootSolution(TypedDict):
    name: str
    version: str
    compiler: str


class RootSolution(_RootSolution, total=False):
    """One root's answer: `packages` by name -> version, itself among them; or the `reason` (several lines) why there is none."""

    packages: Dict[str, str]
    reason: str


class RootFacts(TypedDict):
    """What answers were sought in: how many names and versions are available in the base, and who sought: `solve_roots` or
    `opam`."""

    names: int
    versions: int
    solver: str


class RootSolutions(TypedDict):
    """solutions.json: sorted by compiler as asked for, then by name, newest first."""

    roots: List[RootSolution]
    facts: RootFacts


class _ListRootsRequest(TypedDict):
    step: Literal["list-roots"]
    store: str
    layers: List[str]
    prepared: str
    repositories: List[str]
    compilers: List[str]
    solver: str


class ListRootsRequest(_ListRootsRequest, total=False):
    """The step `list-roots`: what is available in the base, newest only or `all_versions`; `installable`: of that what goes with
    the compiler and the constraints, as far as is seen without solving. With `revdeps_of` (NAME or NAME.VERSION) instead of
    that what can be installed together with each of them. Writes roots.json."""

    all_versions: bool
    installable: bool
    revdeps_of: List[str]
    constraints: List[str]


class _ListedRoot(TypedDict):
    name: str
    version: str


class ListedRoot(_ListedRoot, total=False):
    """A package that is available."""

    synopsis: str


class ReverseDependency(TypedDict):
    """A package that can be installed together with `of` (NAME.VERSION): `distance` 1 is direct; `by` says which way it, or the
    next one on the way to `of`, depends; `packages` are the answer, name -> version."""

    name: str
    version: str
    of: str
    distance: int
    by: Literal["depends", "depopts", "test"]
    packages: Dict[str, str]


class CompilerRoots(TypedDict):
    """What there is for one compiler: `packages`, or `revdeps` where those were asked for."""

    compiler: str
    packages: List[ListedRoot]
    revdeps: List[ReverseDependency]


class ListedRoots(TypedDict):
    """roots.json."""

    compilers: List[CompilerRoots]


class _SolverRequest(TypedDict):
    step: Literal["solver"]
    store: str
    base_json: str
    indexes: str
    mirrors: List[str]
    suite: str
    architecture: str


class SolverRequest(_SolverRequest, total=False):
    """The step `solver`: what the program that solves roots is built from. Writes solver.json."""

    secrets: str


class SolverPackage(TypedDict):
    """solver.json: `note` says why the base cannot have it; `debs` are all that it needs beyond the base."""

    package: PackageFields
    debs: List[KeptDeb]
    note: str


class HealthMetadata(TypedDict):
    """What a health check's lockfile was made for, as its backend has it."""

    base: str
    packages: List[str]
    latest: int
    compilers: List[str]
    constraints: List[str]
    options: List[str]
    repositories: List[str]


class _LockRootsRequest(LockedFrom):
    step: Literal["lock-roots"]
    metadata: HealthMetadata
    asked: List[str]
    prepared: str
    solutions: str


class LockRootsRequest(_LockRootsRequest, total=False):
    """The step `lock-roots`: `solutions` is a file of the other steps, `metadata` is written as it is.
    asked: "test" and "doc", whose dependencies the roots have. Writes `lockfile`, and notes.json: what is out of reach is
    recorded."""

    secrets: str
