"""The one module that knows how the running Pants is called.

Pants 2.17 knows rules by their types (`Get(Output, Input, x)`), Pants from 2.32 on by their names
(`await rule(**implicitly(x))`). The rest of the backend does neither: it awaits the functions below, alone or through
`concurrently`.

With 2.17 each of them has to be a plain function annotated `-> Get`: its rule visitor follows functions with that bare
annotation, and `MultiGet` takes no coroutines. For a newer Pants each of them becomes an `async def` of the same name
and parameters that awaits the rule by name, `concurrently` is imported from `pants.engine.rules`, and nothing outside
this module changes. Rules of our own are asked for through here as well: that also allows them to call themselves.
"""

from __future__ import annotations

from pants.base.specs import RawSpecsWithoutFileOwners
from pants.core.goals.package import BuiltPackage, PackageFieldSet
from pants.engine.addresses import Address, Addresses, AddressInput, UnparsedAddressInputs
from pants.engine.env_vars import EnvironmentVars, EnvironmentVarsRequest
from pants.engine.fs import (
    AddPrefix,
    CreateDigest,
    Digest,
    DigestContents,
    DigestEntries,
    DigestSubset,
    DownloadFile,
    MergeDigests,
    PathGlobs,
    Paths,
    RemovePrefix,
    Snapshot,
)
from pants.engine.goal import CurrentExecutingGoals
from pants.engine.internals.mapper import AddressFamilies
from pants.engine.process import FallibleProcessResult, InteractiveProcess, InteractiveProcessResult, Process
from pants.engine.rules import Effect, Get, MultiGet, collect_rules, goal_rule, rule
from pants.engine.rules import _uncacheable_rule as uncacheable_rule
from pants.engine.target import (
    Targets,
    UnexpandedTargets,
    WrappedTarget,
    WrappedTargetRequest,
)

from opam_oci.image_products import (
    ImageParts,
    ImagePartsRequest,
    ImageRequest,
    OciImage,
    PackedLayerRequest,
    RuntimeLayerRequest,
)
from opam_oci.lockfile import DebianLock, OpamLock
from opam_oci.products import (
    BaseLayerRequest,
    BaseStart,
    BuildLogRequest,
    BuildLogShown,
    BuildPlan,
    BuildPlanRequest,
    DebianIndexes,
    DebianIndexesRequest,
    DebianLockRequest,
    DebianLockText,
    DebianLockTextRequest,
    DebianRootfs,
    DebianRootfsRequest,
    Fetched,
    FetchRequest,
    Foundation,
    FoundationRequest,
    HostCheck,
    HostCheckRequest,
    ImageLayout,
    ImageLayoutRequest,
    ImageNaming,
    ImageNamingRequest,
    Layer,
    Mirrors,
    OnDemandProcess,
    OnDemandRequest,
    OpamLockRequest,
    OpamRepository,
    OpamRepositoryRequest,
    PackageLayerRequest,
    PackageOutcome,
    PreparedRepositories,
    PreparedRepositoriesRequest,
    ProgramFound,
    ProgramRequest,
    RepositoryFingerprints,
    RequirementTargets,
    ResolveInputs,
    ResolveInputsRequest,
    SandboxTool,
    TargetsOfTypeRequest,
)

__all__ = ["collect_rules", "concurrently", "goal_rule", "rule", "uncacheable_rule"]

concurrently = MultiGet


# Files and processes.


def run_process(process: Process) -> Get:
    """A FallibleProcessResult."""
    return Get(FallibleProcessResult, Process, process)


def run_interactively(process: InteractiveProcess) -> Effect:
    """An InteractiveProcessResult. For goals only."""
    return Effect(InteractiveProcessResult, InteractiveProcess, process)


def create_digest(request: CreateDigest) -> Get:
    """A Digest."""
    return Get(Digest, CreateDigest, request)


def merge_digests(request: MergeDigests) -> Get:
    """A Digest."""
    return Get(Digest, MergeDigests, request)


def add_prefix(request: AddPrefix) -> Get:
    """A Digest."""
    return Get(Digest, AddPrefix, request)


def remove_prefix(request: RemovePrefix) -> Get:
    """A Digest."""
    return Get(Digest, RemovePrefix, request)


def digest_subset(request: DigestSubset) -> Get:
    """A Digest."""
    return Get(Digest, DigestSubset, request)


def digest_contents(digest: Digest) -> Get:
    """DigestContents."""
    return Get(DigestContents, Digest, digest)


def digest_entries(digest: Digest) -> Get:
    """DigestEntries."""
    return Get(DigestEntries, Digest, digest)


def contents_of_globs(globs: PathGlobs) -> Get:
    """DigestContents of files in the build root."""
    return Get(DigestContents, PathGlobs, globs)


def snapshot_of_globs(globs: PathGlobs) -> Get:
    """A Snapshot of files in the build root."""
    return Get(Snapshot, PathGlobs, globs)


def paths_of_globs(globs: PathGlobs) -> Get:
    """Paths in the build root."""
    return Get(Paths, PathGlobs, globs)


def download_file(request: DownloadFile) -> Get:
    """A Digest."""
    return Get(Digest, DownloadFile, request)


def environment_vars(request: EnvironmentVarsRequest) -> Get:
    """EnvironmentVars."""
    return Get(EnvironmentVars, EnvironmentVarsRequest, request)


def executing_goals() -> Get:
    """CurrentExecutingGoals."""
    return Get(CurrentExecutingGoals)


# Targets.


def parse_address(address_input: AddressInput) -> Get:
    """An Address."""
    return Get(Address, AddressInput, address_input)


def addresses_of(request: UnparsedAddressInputs) -> Get:
    """Addresses."""
    return Get(Addresses, UnparsedAddressInputs, request)


def targets_of(addresses: Addresses) -> Get:
    """Targets: generators are replaced by what they generate."""
    return Get(Targets, Addresses, addresses)


def target_at(request: WrappedTargetRequest) -> Get:
    """A WrappedTarget."""
    return Get(WrappedTarget, WrappedTargetRequest, request)


def address_families(specs: RawSpecsWithoutFileOwners) -> Get:
    """AddressFamilies: what BUILD files say, before any target generator runs."""
    return Get(AddressFamilies, RawSpecsWithoutFileOwners, specs)


def unexpanded_targets(specs: RawSpecsWithoutFileOwners) -> Get:
    """UnexpandedTargets."""
    return Get(UnexpandedTargets, RawSpecsWithoutFileOwners, specs)


# Rules of this backend.


def targets_of_type(request: TargetsOfTypeRequest) -> Get:
    """UnexpandedTargets."""
    return Get(UnexpandedTargets, TargetsOfTypeRequest, request)


def opam_repository(request: OpamRepositoryRequest) -> Get:
    """An OpamRepository."""
    return Get(OpamRepository, OpamRepositoryRequest, request)


def debian_rootfs(request: DebianRootfsRequest) -> Get:
    """A DebianRootfs."""
    return Get(DebianRootfs, DebianRootfsRequest, request)


def debian_lock(request: DebianLockRequest) -> Get:
    """A DebianLock."""
    return Get(DebianLock, DebianLockRequest, request)


def opam_lock(request: OpamLockRequest) -> Get:
    """An OpamLock."""
    return Get(OpamLock, OpamLockRequest, request)


def requirement_targets() -> Get:
    """RequirementTargets."""
    return Get(RequirementTargets)


def resolve_inputs(request: ResolveInputsRequest) -> Get:
    """ResolveInputs."""
    return Get(ResolveInputs, ResolveInputsRequest, request)


def debian_mirrors() -> Get:
    """Mirrors."""
    return Get(Mirrors)


def host_check(request: HostCheckRequest) -> Get:
    """A HostCheck."""
    return Get(HostCheck, HostCheckRequest, request)


def fetch(request: FetchRequest) -> Get:
    """Fetched."""
    return Get(Fetched, FetchRequest, request)


def on_demand(request: OnDemandRequest) -> Get:
    """An OnDemandProcess."""
    return Get(OnDemandProcess, OnDemandRequest, request)


def sandbox_tool() -> Get:
    """A SandboxTool."""
    return Get(SandboxTool)


def base_start(request: BaseLayerRequest) -> Get:
    """A BaseStart."""
    return Get(BaseStart, BaseLayerRequest, request)


def base_layer(request: BaseLayerRequest) -> Get:
    """A Layer."""
    return Get(Layer, BaseLayerRequest, request)


def build_plan(request: BuildPlanRequest) -> Get:
    """A BuildPlan."""
    return Get(BuildPlan, BuildPlanRequest, request)


def foundation(request: FoundationRequest) -> Get:
    """A Foundation."""
    return Get(Foundation, FoundationRequest, request)


def package_layer(request: PackageLayerRequest) -> Get:
    """A PackageOutcome."""
    return Get(PackageOutcome, PackageLayerRequest, request)


def show_build_log(request: BuildLogRequest) -> Get:
    """BuildLogShown."""
    return Get(BuildLogShown, BuildLogRequest, request)


def debian_lock_text(request: DebianLockTextRequest) -> Get:
    """A DebianLockText."""
    return Get(DebianLockText, DebianLockTextRequest, request)


def prepared_repositories(request: PreparedRepositoriesRequest) -> Get:
    """PreparedRepositories."""
    return Get(PreparedRepositories, PreparedRepositoriesRequest, request)


def debian_indexes(request: DebianIndexesRequest) -> Get:
    """DebianIndexes."""
    return Get(DebianIndexes, DebianIndexesRequest, request)


def repository_fingerprints() -> Get:
    """RepositoryFingerprints."""
    return Get(RepositoryFingerprints)


# Images.


def image_parts(request: ImagePartsRequest) -> Get:
    """ImageParts."""
    return Get(ImageParts, ImagePartsRequest, request)


def oci_image(request: ImageRequest) -> Get:
    """An OciImage."""
    return Get(OciImage, ImageRequest, request)


def packed_layer(request: PackedLayerRequest) -> Get:
    """A Layer."""
    return Get(Layer, PackedLayerRequest, request)


def runtime_layer(request: RuntimeLayerRequest) -> Get:
    """A Layer."""
    return Get(Layer, RuntimeLayerRequest, request)


def image_layout(request: ImageLayoutRequest) -> Get:
    """An ImageLayout."""
    return Get(ImageLayout, ImageLayoutRequest, request)


def image_naming(request: ImageNamingRequest) -> Get:
    """An ImageNaming."""
    return Get(ImageNaming, ImageNamingRequest, request)


def program_found(request: ProgramRequest) -> Get:
    """A ProgramFound."""
    return Get(ProgramFound, ProgramRequest, request)


def built_package(field_set: PackageFieldSet) -> Get:
    """A BuiltPackage."""
    return Get(BuiltPackage, PackageFieldSet, field_set)
