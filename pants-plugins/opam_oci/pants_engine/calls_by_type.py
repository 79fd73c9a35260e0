"""Pants' own rules for Pants 2.17: each function returns the question, a `Get`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, TypeVar

from pants.base.specs import RawSpecsWithoutFileOwners
from pants.core.goals.package import BuiltPackage, EnvironmentAwarePackageRequest
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
    NativeDownloadFile,
    PathGlobs,
    Paths,
    RemovePrefix,
    Snapshot,
)
from pants.engine.goal import CurrentExecutingGoals
from pants.engine.internals.mapper import AddressFamilies
from pants.engine.internals.session import SessionValues
from pants.engine.process import FallibleProcessResult, InteractiveProcess, InteractiveProcessResult, Process
from pants.engine.rules import Effect, Get
from pants.engine.target import Targets, UnexpandedTargets, WrappedTarget, WrappedTargetRequest

from opam_oci.pants_engine.rules_by_type import answered_by_get

# Pants 2.17 gives all of these one hash, that of `typing.Tuple`: its engine compares each request with all requests before.
# Newer versions hash what is in them, as this does.
CreateDigest.__hash__ = Addresses.__hash__ = tuple.__hash__  # type: ignore[method-assign,assignment]

__all__ = [
    "add_prefix",
    "address_families",
    "addresses_of",
    "build_package",
    "contents_of_globs",
    "create_digest",
    "digest_subset_to_digest",
    "digest_to_snapshot",
    "download_file",
    "download_from",
    "environment_vars",
    "executing_goals",
    "get_digest_contents",
    "get_digest_entries",
    "merge_digests",
    "parse_address",
    "paths_of_globs",
    "remove_prefix",
    "run_interactive_process",
    "run_process",
    "session_values",
    "snapshot_of_globs",
    "target_at",
    "targets_of",
    "unexpanded_targets",
]

if TYPE_CHECKING:
    _Function = TypeVar("_Function", bound=Callable[..., object])

    def _answered_by_get(function: _Function) -> _Function: ...

else:
    _answered_by_get = answered_by_get


# Files and processes.


@_answered_by_get
def run_process(process: Process) -> Get[FallibleProcessResult]:
    """Run a process, or take its result from a cache. A failure is a result, too."""
    return Get(FallibleProcessResult, Process, process)


@_answered_by_get
def run_interactive_process(process: InteractiveProcess) -> Effect[InteractiveProcessResult]:
    """Run a process in the foreground, with the user's terminal. For goals only."""
    return Effect(InteractiveProcessResult, InteractiveProcess, process)


@_answered_by_get
def create_digest(create_digest: CreateDigest) -> Get[Digest]:
    """Put files into Pants' store."""
    return Get(Digest, CreateDigest, create_digest)


@_answered_by_get
def merge_digests(merge_digests: MergeDigests) -> Get[Digest]:
    """One tree of several. A path may be in two of them only with the same content."""
    return Get(Digest, MergeDigests, merge_digests)


@_answered_by_get
def add_prefix(add_prefix: AddPrefix) -> Get[Digest]:
    """A tree in a directory."""
    return Get(Digest, AddPrefix, add_prefix)


@_answered_by_get
def remove_prefix(remove_prefix: RemovePrefix) -> Get[Digest]:
    """A tree out of its directory."""
    return Get(Digest, RemovePrefix, remove_prefix)


@_answered_by_get
def digest_subset_to_digest(digest_subset: DigestSubset) -> Get[Digest]:
    """The files of a tree that globs match."""
    return Get(Digest, DigestSubset, digest_subset)


@_answered_by_get
def digest_to_snapshot(digest: Digest) -> Get[Snapshot]:
    """A tree with the names of its files."""
    return Get(Snapshot, Digest, digest)


@_answered_by_get
def get_digest_contents(digest: Digest) -> Get[DigestContents]:
    """All files of a tree with their contents."""
    return Get(DigestContents, Digest, digest)


@_answered_by_get
def get_digest_entries(digest: Digest) -> Get[DigestEntries]:
    """All files of a tree by sha256 and size, and its links and empty directories."""
    return Get(DigestEntries, Digest, digest)


@_answered_by_get
def contents_of_globs(path_globs: PathGlobs) -> Get[DigestContents]:
    """Files of the build root with their contents."""
    return Get(DigestContents, PathGlobs, path_globs)


@_answered_by_get
def snapshot_of_globs(path_globs: PathGlobs) -> Get[Snapshot]:
    """Files of the build root as a tree, and their names."""
    return Get(Snapshot, PathGlobs, path_globs)


@_answered_by_get
def paths_of_globs(path_globs: PathGlobs) -> Get[Paths]:
    """Names of files in the build root."""
    return Get(Paths, PathGlobs, path_globs)


@_answered_by_get
def download_file(request: DownloadFile) -> Get[Digest]:
    """A file from a URL, checked. Raises the engine's own exception where it cannot be had."""
    return Get(Digest, DownloadFile, request)


@_answered_by_get
def download_from(request: NativeDownloadFile) -> Get[Digest]:
    """As `download_file`, with headers of its own, and by no plugin of Pants."""
    return Get(Digest, NativeDownloadFile, request)


@_answered_by_get
def environment_vars(request: EnvironmentVarsRequest) -> Get[EnvironmentVars]:
    """Variables of the user's environment."""
    return Get(EnvironmentVars, EnvironmentVarsRequest, request)


@_answered_by_get
def executing_goals() -> Get[CurrentExecutingGoals]:
    """The goals of this run."""
    return Get(CurrentExecutingGoals)


@_answered_by_get
def session_values() -> Get[SessionValues]:
    """What Pants says of this run: its command line, its environment."""
    return Get(SessionValues)


# Targets.


@_answered_by_get
def parse_address(address_input: AddressInput) -> Get[Address]:
    """An address out of its text."""
    return Get(Address, AddressInput, address_input)


@_answered_by_get
def addresses_of(request: UnparsedAddressInputs) -> Get[Addresses]:
    """Addresses out of their texts."""
    return Get(Addresses, UnparsedAddressInputs, request)


@_answered_by_get
def targets_of(addresses: Addresses) -> Get[Targets]:
    """The targets at addresses; generators are replaced by what they generate."""
    return Get(Targets, Addresses, addresses)


@_answered_by_get
def target_at(request: WrappedTargetRequest) -> Get[WrappedTarget]:
    """The target at an address."""
    return Get(WrappedTarget, WrappedTargetRequest, request)


@_answered_by_get
def address_families(specs: RawSpecsWithoutFileOwners) -> Get[AddressFamilies]:
    """What BUILD files say, before any target generator runs."""
    return Get(AddressFamilies, RawSpecsWithoutFileOwners, specs)


@_answered_by_get
def unexpanded_targets(specs: RawSpecsWithoutFileOwners) -> Get[UnexpandedTargets]:
    """Targets, generators as such."""
    return Get(UnexpandedTargets, RawSpecsWithoutFileOwners, specs)


@_answered_by_get
def build_package(request: EnvironmentAwarePackageRequest) -> Get[BuiltPackage]:
    """What `package` makes of a target."""
    return Get(BuiltPackage, EnvironmentAwarePackageRequest, request)
