"""Reads the lockfiles of resolves."""

from __future__ import annotations

from dataclasses import dataclass

from pants.engine.fs import PathGlobs

from opam_oci.pants_engine.calls import contents_of_globs
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.resolves.debian_rootfs import DebianRootfs
from opam_oci.resolves.freshness import check_debian_lock_fresh
from opam_oci.resolves.lockfile import DebianLock, LockfileError, OpamLock, regenerate_command
from opam_oci.resolves.lockfile_reader import read_debian_lock, read_opam_lock
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class DebianLockRequest:
    """The lockfile of a base, which must fit its target."""

    rootfs: DebianRootfs


@dataclass(frozen=True)
class OpamLockRequest:
    """The lockfile of an opam resolve, which may be older than the targets."""

    resolve: str


async def lockfile_content(path: str, resolve: str) -> bytes:
    """The bytes of a resolve's lockfile. Raises LockfileError where there is none."""
    contents = await contents_of_globs(PathGlobs([path]))
    if not contents:
        raise LockfileError(
            path, f"it does not exist. The resolve `{resolve}` needs it; write it with `{regenerate_command(resolve)}`."
        )
    return contents[0].content


@rule
async def read_fresh_debian_lock(request: DebianLockRequest, debian: DebianSubsystem) -> DebianLock:
    """The lockfile of a base. Raises LockfileError; StaleLockfileError where the target has changed since."""
    rootfs = request.rootfs
    path = debian.lockfile_of(rootfs.resolve, f"the target {rootfs.address}")
    lock = read_debian_lock(path, rootfs.resolve, await lockfile_content(path, rootfs.resolve))
    check_debian_lock_fresh(lock, rootfs)
    return lock


@rule
async def read_opam_lockfile(request: OpamLockRequest, opam: OpamSubsystem) -> OpamLock:
    """The lockfile of an opam resolve, fresh or not. Raises LockfileError, UnknownResolveError."""
    path = opam.lockfile_of(request.resolve, "a target or `[opam].default_resolve`")
    return read_opam_lock(path, request.resolve, await lockfile_content(path, request.resolve))


def rules() -> list[object]:
    return [*collect_rules()]
