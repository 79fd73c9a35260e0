"""What a health check found: frozen values that reports are written from. No engine calls here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pants.util.frozendict import FrozenDict


class Status(Enum):
    """How it went with a root, or with one of the packages that it needs."""

    SUCCESS = "success"
    # Its own build failed.
    FAILURE = "failure"
    # It was not tried, as packages below it did not build.
    DEPENDENCY_FAILED = "dependency_failed"
    # opam finds no versions that go together. Of roots only.
    NO_SOLUTION = "no_solution"
    # No place has a source of it.
    NO_SOURCE = "no_source"
    # Debian has no packages for its depexts, or they do not go together.
    NO_DEPEXT = "no_depext"
    # Its build passed `[opam].build_timeout`.
    TIMED_OUT = "timed_out"
    # It was not tried, as the run ended before.
    CANCELLED = "cancelled"
    # Not asked for: of `--dry-run` only.
    NOT_BUILT = "not_built"


class FailureKind(Enum):
    """Why a build failed, by what its log says."""

    # The machine or the network, not the package: a full disk, a process that the kernel ended, a download.
    TRANSIENT = "transient"
    # What Debian's packages should have brought along is not there.
    DEPEXT = "depext"
    # The package's tests.
    TEST = "test"
    BUILD = "build"


@dataclass(frozen=True)
class PackageResult:
    """A package over its dependencies, whoever asked for it.

    id: "lwt.5.6.1/0123456789ab", the same for the same package over the same dependencies in any run. reason: one line, of the
    log or in our words; log: the whole log, "" where there is none. layer: the digest of its layer, "sha256:..."; size: its
    bytes. seconds: of its build, None where it is not known; cached: nothing was built in this run, the result was known.
    started: seconds since the run began, None for what was cached. depends: ids. blocked_by: ids of the
    packages whose own builds failed. accept_failures: the opam file's `x-ci-accept-failures` names the base's distribution.
    """

    id: str
    name: str
    version: str
    status: Status
    kind: FailureKind | None = None
    reason: str = ""
    log: str = ""
    layer: str = ""
    size: int = 0
    seconds: float | None = None
    started: float | None = None
    cached: bool = False
    depends: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    accept_failures: bool = False

    @property
    def full_name(self) -> str:
        """As in "lwt.5.6.1"."""
        return f"{self.name}.{self.version}"


@dataclass(frozen=True)
class RootResult:
    """One package that was asked for, solved on its own. compiler: what it was solved with, as asked for, such as
    "ocaml=5.3.0"; "" where nothing was said. package: the id of the root's own package, "" where there is no solution; later:
    ids of those of its solution that are not below it (opam's `post` dependencies). reason: as of its
    package, or opam's for no solution."""

    name: str
    version: str
    status: Status
    compiler: str = ""
    package: str = ""
    later: tuple[str, ...] = ()
    reason: str = ""

    @property
    def full_name(self) -> str:
        """As in "lwt.5.6.1"; the name alone where opam chose no version."""
        return f"{self.name}.{self.version}" if self.version else self.name


@dataclass(frozen=True)
class HealthReport:
    """A whole run. target: the address of the check; base: of its base. repositories: fingerprints, as lockfiles state them.
    seconds: of the run, None for a dry run."""

    target: str
    base: str
    repositories: tuple[str, ...]
    roots: tuple[RootResult, ...]
    packages: FrozenDict[str, PackageResult]
    seconds: float | None = None
