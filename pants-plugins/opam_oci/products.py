"""What the backend's rules ask each other for: requests and results, no logic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pants.core.goals.package import BuiltPackage
from pants.engine.addresses import Address
from pants.engine.engine_aware import EngineAwareParameter, EngineAwareReturnType
from pants.engine.fs import Digest, FileDigest
from pants.engine.process import FallibleProcessResult, Process
from pants.engine.target import Target
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from opam_oci.destinations import Destination
from opam_oci.lockfile import DebianLock, OpamLock
from opam_oci.target_types import OciImagePackagesField


@dataclass(frozen=True)
class DebianRootfs:
    """A `debian_rootfs` target's fields, defaults filled in."""

    address: Address
    resolve: str
    suite: str
    architecture: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class DebianRootfsRequest:
    """A `debian_rootfs` by its address as written in `origin`, a phrase for error messages."""

    address: str
    origin: str


@dataclass(frozen=True)
class DebianLockRequest:
    """The lockfile of a base, which must fit its target."""

    rootfs: DebianRootfs


@dataclass(frozen=True)
class OpamLockRequest:
    """The lockfile of an opam resolve, which may be older than the targets."""

    resolve: str


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
    """An opam file of the project: `path` in the build root, `text` with undecodable bytes as surrogates."""

    path: str
    content: bytes

    @property
    def package(self) -> str:
        return self.path.rpartition("/")[2][: -len(".opam")]

    @property
    def text(self) -> str:
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
class RepositoryFingerprints:
    """What `[opam].repositories` names, by content, in its order: "overlay tree:...", "upstream sha256:..."."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Mirrors:
    """Roots of Debian archives, without a slash at the end, in the order in which they are asked."""

    urls: tuple[str, ...]


@dataclass(frozen=True)
class HostCheckRequest:
    """Asks what keeps this machine from building layers, from making a `base`, and from making a `lock`."""

    base: bool
    lock: bool


@dataclass(frozen=True)
class HostCheck:
    """One sentence per thing that is missing, with its remedy; empty when all is there."""

    problems: tuple[str, ...]


@dataclass(frozen=True)
class FetchRequest(EngineAwareParameter):
    """A file by its content, and where it may be had. `owner` says in messages what needs it; `size` in bytes."""

    owner: str
    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    # Whose lockfile names the file; "" where no lockfile does.
    resolve: str = ""
    # What to do if no place has it, as sentences for the user; "" where what holds for locked files does.
    remedy: str = ""

    def debug_hint(self) -> str:
        return f"{self.owner}: {self.name}"


@dataclass(frozen=True)
class Fetched(EngineAwareReturnType):
    """The file's digest, or why it could not be had. A failure holds for one run only."""

    file_digest: FileDigest
    error: str | None

    def cacheable(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class OnDemandRequest:
    """A process, and those of its input files that are to be fetched if no cache has its result.

    only_try: fetch nothing, and give no result where that would be needed.
    """

    process: Process
    files: tuple[FetchRequest, ...]
    only_try: bool = False


@dataclass(frozen=True)
class OnDemandProcess:
    """The process's result; or none, and why which files could not be had."""

    result: FallibleProcessResult | None
    errors: tuple[str, ...]


@dataclass(frozen=True)
class SandboxTool:
    """The directory that processes run as `python3 __tool`: for each part of the tool, what a command of it needs."""

    parts: FrozenDict[str, Digest]


@dataclass(frozen=True)
class Layer:
    """A layer directory (`layer.json` and its blob) and what stands in its layer.json.

    `diff_id` and `blob` are "sha256:..."; `size` is the blob's, in bytes.
    """

    kind: str
    name: str
    version: str
    diff_id: str
    blob: str
    size: int
    digest: Digest

    @property
    def full_name(self) -> str:
        return f"{self.name}.{self.version}" if self.version else self.name


@dataclass(frozen=True)
class BaseLayerRequest(EngineAwareParameter):
    """The base layer of a `debian_rootfs` as locked."""

    lock: DebianLock

    def debug_hint(self) -> str:
        return self.lock.resolve


@dataclass(frozen=True)
class BaseStart:
    """The process that makes a base, and whether some cache has its result."""

    request: OnDemandRequest
    cached: bool


@dataclass(frozen=True)
class BuildPlanRequest:
    """Asks whether a resolve can be built here and now."""

    resolve: str


@dataclass(frozen=True)
class BuildPlan:
    """Locks that fit the targets, on a machine that can build them."""

    lock: OpamLock
    rootfs: DebianRootfs
    debian_lock: DebianLock


@dataclass(frozen=True)
class FoundationRequest:
    """What all packages over a base stand on."""

    debian_lock: DebianLock


@dataclass(frozen=True)
class Foundation:
    """The two layers below all packages."""

    base: Layer
    opam_root: Layer

    @property
    def layers(self) -> tuple[Layer, ...]:
        return (self.base, self.opam_root)


@dataclass(frozen=True)
class PackageLayerRequest(EngineAwareParameter):
    """The layer of one package of a resolve, and with it those of all that it depends on."""

    resolve: str
    package: str

    def debug_hint(self) -> str:
        return f"{self.package} ({self.resolve})"


@dataclass(frozen=True)
class PackageOutcome(EngineAwareReturnType):
    """The layers of a package and of its transitive build dependencies by name; or why there are none.

    Either `layers` holds the package itself, or it `failed` (the message, several lines), or it was not tried because
    the packages in `blocked_by` failed.
    """

    package: str
    layers: FrozenDict[str, Layer]
    failed: str | None = None
    blocked_by: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.failed is None and not self.blocked_by

    def level(self) -> LogLevel | None:
        return LogLevel.ERROR if self.failed is not None else None

    def message(self) -> str | None:
        return f"{self.package} failed" if self.failed is not None else None

    def cacheable(self) -> bool:
        # A failure is tried again in the next run, also under the same daemon.
        return self.ok


@dataclass(frozen=True)
class BuildLogRequest:
    """Asks to print a build log, once per run."""

    package: str
    text: str


@dataclass(frozen=True)
class BuildLogShown:
    """The log is printed."""


@dataclass(frozen=True)
class OpamRepository:
    """An opam repository for a process: `path` is a directory or an archive in `digest`.

    `fingerprint` stands for its content: "tree:...", "git:..." or "sha256:...".
    """

    name: str
    path: str
    digest: Digest
    fingerprint: str


@dataclass(frozen=True)
class OpamRepositoryRequest:
    """An entry of `[opam].repositories`."""

    name: str
    location: str


@dataclass(frozen=True)
class PreparedRepositoriesRequest:
    """Asks opam in a base, as locked, to read all of `[opam].repositories`."""

    debian_lock: DebianLock


@dataclass(frozen=True)
class PreparedRepositories:
    """The directory `prepared/`: what opam keeps of the repositories that it read, and their packages' files."""

    digest: Digest


@dataclass(frozen=True)
class DebianIndexesRequest:
    """Asks for a mirror's lists as they are in this run."""

    suite: str
    architecture: str


@dataclass(frozen=True)
class DebianIndexes:
    """`indexes.json` and `sources.txt`: the lists of a suite's packages, and the files of Debian's sources."""

    digest: Digest


@dataclass(frozen=True)
class TargetsOfTypeRequest:
    """All targets of a type that is no generator and not generated."""

    alias: str


@dataclass(frozen=True)
class RequirementTargets:
    """All `opam_requirement` targets, by their resolve."""

    by_resolve: FrozenDict[str, tuple[Target, ...]]


@dataclass(frozen=True)
class DebianLockText:
    """A lockfile of a base, just made."""

    content: bytes


@dataclass(frozen=True)
class DebianLockTextRequest(EngineAwareParameter):
    """Asks the Debian archive what a base consists of today."""

    rootfs: DebianRootfs

    def debug_hint(self) -> str:
        return self.rootfs.resolve


@dataclass(frozen=True)
class ImageLayoutRequest:
    """The OCI image layout among what an image was packaged as."""

    address: Address
    packages: tuple[BuiltPackage, ...]


@dataclass(frozen=True)
class ImageLayout:
    """A layout of one image: its manifest's digest ("sha256:...") and its files, index.json at the top."""

    manifest_digest: str
    digest: Digest


@dataclass(frozen=True)
class ImageNamingRequest:
    """Asks under which names an image is published; if `local`, under which an engine of this machine has it.

    `digest`: of its manifest.
    """

    address: Address
    packages: OciImagePackagesField
    image_tags: tuple[str, ...]
    repositories: tuple[str, ...] | None
    digest: str
    local: bool = False


@dataclass(frozen=True)
class ImageNaming:
    """Where an image goes, in the order of its `repositories`."""

    destinations: tuple[Destination, ...]


@dataclass(frozen=True)
class ProgramRequest:
    """The first of the programs `names` on `path`, a PATH, of at least the version `minimum` (empty: any).

    `purpose` begins the error's sentence, `package` is Debian's that brings it.
    """

    names: tuple[str, ...]
    path: str
    purpose: str
    package: str
    minimum: tuple[int, ...] = ()


@dataclass(frozen=True)
class ProgramFound:
    """Absolute paths of the program, and of the Python for the tool."""

    path: str
    python: str
