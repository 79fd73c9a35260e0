"""The requests of this part, and what its steps hand on to one another; those of many roots are in `root_requests`.

Paths are relative to the current directory.
"""

from typing import Dict, List, Literal, TypedDict


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
    """A package of the project itself: `opam` is the text of its opam file, `path` its place in the build root. `name` is ""
    where the path does not give it. `target`: who names the file, for messages. With `build`, the package is in the solution;
    `directory` is its project's root then ("" for the build root). Otherwise only what it needs is."""

    path: str
    target: str
    build: bool
    directory: str


class _SolveRequest(TypedDict):
    step: Literal["solve"]
    store: str
    layers: List[str]
    prepared: str
    repositories: List[str]
    requirements: List[str]
    constraints: List[str]


class SolveRequest(_SolveRequest, total=False):
    """The step `solve`: `repositories` are names; `solver`: "" for opam's default. Writes solution.json.

    root: the build root's absolute path, where an opam file holds it."""

    local: List[LocalPackage]
    root: str
    with_test: bool
    with_doc: bool
    prefer_oldest: bool
    solver: str


class _SolvedPackage(TypedDict):
    name: str
    version: str
    opam: str
    files: List[List[str]]
    depends: List[str]
    post: List[str]
    test: List[str]
    doc: List[str]
    depexts: List[str]


class SolvedPackage(_SolvedPackage, total=False):
    """A package of a solution: bytes of `opam` that are not UTF-8 are surrogates; `files` are [path, base64, "x" or ""]: whether
    the file is executable. `local`: of the project's own package, the `path` of its opam file."""

    local: str


class Solution(TypedDict):
    """solution.json: `notes` are sentences for the user."""

    packages: List[SolvedPackage]
    notes: List[str]


class LockedFrom(TypedDict):
    """Where a lockfile's sources and Debian packages are looked for: `indexes` and `sources` are files of the step `indexes`."""

    store: str
    resolve: str
    indexes: str
    sources: str
    mirrors: List[str]
    archive_mirrors: List[str]
    suite: str
    architecture: str


class _LockRequest(LockedFrom):
    step: Literal["lock"]
    base: str
    requirements: List[str]
    constraints: List[str]
    repositories: List[str]
    options: List[str]
    solution: str
    base_json: str


class LockRequest(_LockRequest, total=False):
    """The step `lock`: `repositories` and `opam_files` are fingerprints; `solution` and `base_json` are files of the
    other steps. Writes `lockfile`, and notes.json: sentences for the user."""

    opam_files: List[str]
    record_out_of_reach: bool
    secrets: str
