"""What is known of a resolve before anything is built."""

from __future__ import annotations

from dataclasses import dataclass

from pants.util.frozendict import FrozenDict

from opam_oci.host.checks import require_host
from opam_oci.layers.opam_text import texts_seen_by_builds
from opam_oci.layers.urgency import Wanted, remaining_seconds
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.debian_rootfs import DebianRootfs, DebianRootfsRequest, find_debian_rootfs
from opam_oci.resolves.freshness import check_opam_lock_fresh
from opam_oci.resolves.inputs import ResolveInputsRequest, find_resolve_inputs
from opam_oci.resolves.lockfile import DebianLock, OpamLock
from opam_oci.resolves.locks import DebianLockRequest, OpamLockRequest, read_fresh_debian_lock, read_opam_lockfile
from opam_oci.resolves.opam_repositories import RepositoryFingerprints, find_fingerprints
from opam_oci.resolves.targets import address_text
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class BuildPlanRequest:
    """Asks whether a resolve can be built here and now."""

    resolve: str


@dataclass(frozen=True)
class BuildPlan:
    """Locks that fit the targets, on a machine that can build them. opam_texts: by package, see `opam_text`; remaining: seconds
    by package, longest first; wanted: see `urgency`."""

    lock: OpamLock
    rootfs: DebianRootfs
    debian_lock: DebianLock
    opam_texts: FrozenDict[str, str]
    remaining: FrozenDict[str, float]
    wanted: Wanted


@rule
async def plan_build(request: BuildPlanRequest, opam: OpamSubsystem) -> BuildPlan:
    """Everything that can be wrong before work starts is found here."""
    opam.build_limits()
    lock = await read_opam_lockfile(OpamLockRequest(request.resolve), **implicitly())
    inputs = await find_resolve_inputs(ResolveInputsRequest(request.resolve), **implicitly())
    fingerprints: RepositoryFingerprints | None = None
    if lock.repositories is not None:
        fingerprints = await find_fingerprints(**implicitly())
    check_opam_lock_fresh(lock, inputs, fingerprints)
    rootfs = await find_debian_rootfs(
        DebianRootfsRequest(address_text(inputs.base), "`[opam].resolves_to_base`"), **implicitly()
    )
    locked = await read_fresh_debian_lock(DebianLockRequest(rootfs), **implicitly())
    await require_host(opam)
    texts = texts_seen_by_builds((package.name, package.opam) for package in lock.packages.values())
    return BuildPlan(lock, rootfs, locked, FrozenDict(texts), FrozenDict(remaining_seconds(lock)), Wanted())


def rules() -> list[object]:
    return [*collect_rules()]
