"""The requests of this part, and what its steps hand on to one another. Paths are relative to the current directory."""

from typing import Dict, List, Literal, TypedDict, Union

from opam_sandbox.opam.package import PackageFields


class _LockDebianRequest(TypedDict):
    store: str
    resolve: str
    suite: str
    architecture: str
    packages: List[str]
    mirrors: List[str]


class LockDebianRequest(_LockDebianRequest, total=False):
    """`lock-debian`: `packages` as apt takes them, `mirrors` are URLs. Writes `lockfile`.

    secrets: here and in other requests, the file with the passwords that `mirrors` and proxies want (`secrets.SecretsFile`).
    """

    secrets: str


class Repository(TypedDict):
    """An opam repository: `path` is a directory or an archive."""

    name: str
    path: str


class RepositoriesRequest(TypedDict):
    """The step `repositories`: `layers` are the base and opam's root. Writes the directory `prepared`."""

    step: Literal["repositories"]
    store: str
    layers: List[str]
    repositories: List[Repository]


class BaseFacts(TypedDict):
    """prepared/base.json: opam's global variables in the base, and the text of dpkg's status file."""

    variables: Dict[str, str]
    status: str


class _IndexesRequest(TypedDict):
    step: Literal["indexes"]
    store: str
    mirrors: List[str]
    suite: str
    architecture: str
    source_suites: List[str]


class IndexesRequest(_IndexesRequest, total=False):
    """The step `indexes`: lists of one suite, source files of `source_suites`. Writes indexes.json and sources.txt."""

    secrets: str


class Indexes(TypedDict):
    """indexes.json: `lists` is a directory below apt's part of the cache; `session` names this run."""

    lists: str
    session: str


class KeptDeb(TypedDict):
    """One .deb of an answer of apt's that is kept: see `apt.LockedDeb`."""

    name: str
    version: str
    architecture: str
    path: str
    sha256: str
    size: int


class KeptDebs(TypedDict):
    """An answer of apt's."""

    debs: List[KeptDeb]


class KeptError(TypedDict):
    """Why apt has no answer."""

    error: str


class _LocalPackage(TypedDict):
    name: str
    opam: str


class LocalPackage(_LocalPackage, total=False):
    """A package of the project itself: `opam` is the text of its opam file, `path` its place in the project. `name` is "" where
    the path does not give it. `target`: who names the file, for messages."""

    path: str
    target: str


class _SolveRequest(TypedDict):
    step: Literal["solve"]
    store: str
    layers: List[str]
    prepared: str
    repositories: List[str]
    requirements: List[str]
    constraints: List[str]


class SolveRequest(_SolveRequest, total=False):
    """The step `solve`: `repositories` are names; `solver`: "" for opam's default. Writes solution.json."""

    local: List[LocalPackage]
    with_test: bool
    with_doc: bool
    prefer_oldest: bool
    solver: str


class SolvedPackage(TypedDict):
    """A package of a solution: bytes of `opam` that are not UTF-8 are surrogates; `files` are [path, base64, "x" or ""]: whether
    the file is executable."""

    name: str
    version: str
    opam: str
    files: List[List[str]]
    depends: List[str]
    post: List[str]
    test: List[str]
    doc: List[str]
    depexts: List[str]


class Solution(TypedDict):
    """solution.json: `notes` are sentences for the user."""

    packages: List[SolvedPackage]
    notes: List[str]


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


class _LockRequest(TypedDict):
    step: Literal["lock"]
    store: str
    resolve: str
    base: str
    requirements: List[str]
    constraints: List[str]
    repositories: List[str]
    options: List[str]
    solution: str
    base_json: str
    indexes: str
    sources: str
    mirrors: List[str]
    archive_mirrors: List[str]
    suite: str
    architecture: str


class LockRequest(_LockRequest, total=False):
    """The step `lock`: `repositories` and `opam_files` are fingerprints; `solution`, `base_json`, `indexes` and `sources`
    are files of the other steps. Writes `lockfile`, and notes.json: sentences for the user."""

    opam_files: List[str]
    record_out_of_reach: bool
    secrets: str


class HealthMetadata(TypedDict):
    """What a health check's lockfile was made for, as its backend has it."""

    base: str
    packages: List[str]
    latest: int
    compilers: List[str]
    constraints: List[str]
    options: List[str]
    repositories: List[str]


class _LockRootsRequest(TypedDict):
    step: Literal["lock-roots"]
    store: str
    resolve: str
    metadata: HealthMetadata
    asked: List[str]
    prepared: str
    solutions: str
    indexes: str
    sources: str
    mirrors: List[str]
    archive_mirrors: List[str]
    suite: str
    architecture: str


class LockRootsRequest(_LockRootsRequest, total=False):
    """The step `lock-roots`: `solutions`, `indexes` and `sources` are files of the other steps, `metadata` is written as it is.
    asked: "test" and "doc", whose dependencies the roots have. Writes `lockfile`, and notes.json: what is out of reach is
    recorded."""

    secrets: str


LockOpamRequest = Union[
    RepositoriesRequest,
    IndexesRequest,
    SolveRequest,
    SolverRequest,
    SolveRootsRequest,
    ListRootsRequest,
    LockRequest,
    LockRootsRequest,
]
