"""Pants' own rules for Pants 2.30 and newer: its rules by name, and helpers where a call needs more than a request."""

from __future__ import annotations

from pants.base.specs import RawSpecsWithoutFileOwners
from pants.core.goals.package import BuiltPackage, EnvironmentAwarePackageRequest, environment_aware_package
from pants.core.util_rules.env_vars import environment_vars_subset
from pants.engine.addresses import Address, Addresses, AddressInput, UnparsedAddressInputs
from pants.engine.download_file import download_file as _download_file
from pants.engine.env_vars import EnvironmentVars, EnvironmentVarsRequest
from pants.engine.fs import Digest, DigestContents, DownloadFile, PathGlobs, Paths, Snapshot
from pants.engine.goal import CurrentExecutingGoals
from pants.engine.internals.build_files import resolve_address
from pants.engine.internals.graph import (
    address_families_from_raw_specs_without_file_owners,
    resolve_target,
    resolve_targets,
    resolve_unexpanded_targets,
    resolve_unparsed_address_inputs,
)
from pants.engine.internals.mapper import AddressFamilies
from pants.engine.internals.specs_rules import addresses_from_raw_specs_without_file_owners
from pants.engine.intrinsics import (
    add_prefix,
    create_digest,
    digest_subset_to_digest,
    digest_to_snapshot,
    execute_process,
    get_digest_contents,
    get_digest_entries,
    merge_digests,
    path_globs_to_digest,
    path_globs_to_paths,
    remove_prefix,
    run_interactive_process,
    session_values,
)
from pants.engine.intrinsics import (
    download_file as download_from,
)
from pants.engine.process import FallibleProcessResult, Process
from pants.engine.rules import implicitly
from pants.engine.target import Targets, UnexpandedTargets, WrappedTarget, WrappedTargetRequest

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


async def run_process(process: Process) -> FallibleProcessResult:
    """Run a process, or take its result from a cache. A failure is a result, too."""
    return await execute_process(process, **implicitly())


async def contents_of_globs(path_globs: PathGlobs) -> DigestContents:
    """Files of the build root with their contents."""
    return await get_digest_contents(await path_globs_to_digest(path_globs))


async def snapshot_of_globs(path_globs: PathGlobs) -> Snapshot:
    """Files of the build root as a tree, and their names."""
    return await digest_to_snapshot(await path_globs_to_digest(path_globs))


async def paths_of_globs(path_globs: PathGlobs) -> Paths:
    """Names of files in the build root."""
    return await path_globs_to_paths(path_globs)


async def download_file(request: DownloadFile) -> Digest:
    """A file from a URL, checked. Raises the engine's own exception where it cannot be had."""
    return await _download_file(request, **implicitly())


async def environment_vars(request: EnvironmentVarsRequest) -> EnvironmentVars:
    """Variables of the user's environment."""
    return await environment_vars_subset(request, **implicitly())


async def executing_goals() -> CurrentExecutingGoals:
    """The goals of this run."""
    # The rule that gives them has no name, but what it reads has.
    return (await session_values()).get(CurrentExecutingGoals) or CurrentExecutingGoals()


async def parse_address(address_input: AddressInput) -> Address:
    """An address out of its text."""
    return await resolve_address(**implicitly({address_input: AddressInput}))


async def addresses_of(request: UnparsedAddressInputs) -> Addresses:
    """Addresses out of their texts."""
    return await resolve_unparsed_address_inputs(request, **implicitly())


async def targets_of(addresses: Addresses) -> Targets:
    """The targets at addresses; generators are replaced by what they generate."""
    return await resolve_targets(**implicitly({addresses: Addresses}))


async def target_at(request: WrappedTargetRequest) -> WrappedTarget:
    """The target at an address."""
    return await resolve_target(request, **implicitly())


async def address_families(specs: RawSpecsWithoutFileOwners) -> AddressFamilies:
    """What BUILD files say, before any target generator runs."""
    return await address_families_from_raw_specs_without_file_owners(specs, **implicitly())


async def unexpanded_targets(specs: RawSpecsWithoutFileOwners) -> UnexpandedTargets:
    """Targets, generators as such."""
    addresses = await addresses_from_raw_specs_without_file_owners(specs, **implicitly())
    return await resolve_unexpanded_targets(addresses)


async def build_package(request: EnvironmentAwarePackageRequest) -> BuiltPackage:
    """What `package` makes of a target."""
    return await environment_aware_package(request, **implicitly())
