"""What every lockfile of opam packages is made from: the base, the repositories read in it, Debian's lists, and mirrors."""

from __future__ import annotations

from dataclasses import dataclass

from pants.engine.fs import Digest
from pants.option.global_options import GlobalOptions

from opam_oci.downloads.credentials import Place, places
from opam_oci.host.checks import require_host
from opam_oci.locking.debian_lockfile import DebianLockTextRequest, lock_debian
from opam_oci.locking.opam_inputs import (
    DebianIndexesRequest,
    PreparedRepositoriesRequest,
    prepare_repositories,
    read_debian_indexes,
)
from opam_oci.locking.steps import require_mirrors
from opam_oci.pants_engine.rules import concurrently, implicitly
from opam_oci.resolves.debian_rootfs import DebianRootfs, DebianRootfsRequest, find_debian_rootfs
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.resolves.lockfile_reader import read_debian_lock
from opam_oci.resolves.locks import DebianLockRequest, read_fresh_debian_lock
from opam_oci.resolves.opam_repositories import (
    InvalidRepositoryError,
    RepositoryFingerprints,
    check_nothing_hidden,
    find_fingerprints,
)
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class LockGround:
    """`prepared`, `indexes`: what the steps `repositories` and `indexes` have written."""

    rootfs: DebianRootfs
    debian_lock: DebianLock
    mirrors: tuple[Place, ...]
    archive_mirrors: tuple[Place, ...]
    fingerprints: RepositoryFingerprints
    prepared: Digest
    indexes: Digest


async def base_lock(rootfs: DebianRootfs, debian: DebianSubsystem, *, new: bool) -> DebianLock:
    """The lock of the base to solve in, from disk or, if `new`, as the Debian archive is now."""
    if not new:
        return await read_fresh_debian_lock(DebianLockRequest(rootfs), **implicitly())
    text = await lock_debian(DebianLockTextRequest(rootfs), **implicitly())
    path = debian.lockfile_of(rootfs.resolve, f"the target {rootfs.address}")
    return read_debian_lock(path, rootfs.resolve, text.content)


async def make_lock_ground(
    base: DebianRootfsRequest, opam: OpamSubsystem, debian: DebianSubsystem, options: GlobalOptions, *, new_base: bool
) -> LockGround:
    """Raises InvalidRepositoryError where there is no repository, LockError, FetchError, MissingHostToolsError and others."""
    if not opam.repositories:
        raise InvalidRepositoryError("No opam repository is set: name at least one in `[opam].repositories`.")
    await check_nothing_hidden(opam.ordered_repositories(), options)
    rootfs = await find_debian_rootfs(base, **implicitly())
    await require_host(opam, lock=True)
    mirrors, archive_mirrors = places((await require_mirrors()).urls), places(opam.archive_mirrors)
    fingerprints = await find_fingerprints(**implicitly())
    locked = await base_lock(rootfs, debian, new=new_base)
    prepared, indexes = await concurrently(
        prepare_repositories(PreparedRepositoriesRequest(locked), **implicitly()),
        read_debian_indexes(DebianIndexesRequest(rootfs.suite, rootfs.architecture), **implicitly()),
    )
    return LockGround(
        rootfs, locked, tuple(mirrors), tuple(archive_mirrors), fingerprints, prepared.digest, indexes.digest
    )
