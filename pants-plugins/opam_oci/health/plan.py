"""What is known of a health check before anything is built."""

from __future__ import annotations

from dataclasses import dataclass

from pants.util.frozendict import FrozenDict

from opam_oci.host.checks import require_host
from opam_oci.layers.opam_text import seen_by_builds, seen_whole
from opam_oci.locking.opam_health_lockfile import OpamHealthLockTextRequest, lock_opam_health
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.debian_rootfs import find_debian_rootfs
from opam_oci.resolves.freshness import check_health_lock_fresh
from opam_oci.resolves.health_inputs import HealthInputs, HealthInputsRequest, base_request, find_health_inputs
from opam_oci.resolves.health_lock import HealthLock, read_health_lock
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.resolves.locks import DebianLockRequest, lockfile_content, read_fresh_debian_lock
from opam_oci.resolves.opam_repositories import find_fingerprints
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_health import OpamHealthSubsystem


@dataclass(frozen=True)
class HealthLockRequest:
    """The lockfile of a health check, by its resolve."""

    resolve: str


@dataclass(frozen=True)
class HealthPlanRequest:
    """Asks whether a health check can run here and now. revdeps_of: instead of the check's own packages, those that can be
    installed together with these are solved, now, and no lockfile is read."""

    resolve: str
    revdeps_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class HealthPlan:
    """Locks that fit the target, on a machine that can build them. opam_texts: what builds see, by package ("lwt.5.6.1")."""

    inputs: HealthInputs
    lock: HealthLock
    debian_lock: DebianLock
    suite: str
    opam_texts: FrozenDict[str, str]


def texts_of(lock: HealthLock) -> dict[str, str]:
    """What builds see of each opam file, by package ("lwt.5.6.1")."""
    packages = {node.package.full_name: node.package for node in lock.nodes.values()}
    whole = seen_whole((package.name, package.opam) for package in packages.values())
    return {
        title: package.opam if package.name in whole else seen_by_builds(package.opam)
        for title, package in packages.items()
    }


@rule
async def read_health_lockfile(request: HealthLockRequest, health: OpamHealthSubsystem) -> HealthLock:
    """The lockfile of a health check, fresh or not. Raises LockfileError, UnknownResolveError."""
    path = health.lockfile_of(request.resolve, "an `opam_health_check` target")
    return read_health_lock(path, request.resolve, await lockfile_content(path, request.resolve))


@rule
async def plan_health(request: HealthPlanRequest, opam: OpamSubsystem) -> HealthPlan:
    """Everything that can be wrong before work starts is found here."""
    opam.build_limits()
    inputs = await find_health_inputs(HealthInputsRequest(request.resolve), **implicitly())
    if request.revdeps_of:
        text = await lock_opam_health(
            OpamHealthLockTextRequest(request.resolve, False, request.revdeps_of), **implicitly()
        )
        lock = read_health_lock(f"of {', '.join(request.revdeps_of)}", request.resolve, text.content)
    else:
        lock = await read_health_lockfile(HealthLockRequest(request.resolve), **implicitly())
        check_health_lock_fresh(lock, inputs, await find_fingerprints(**implicitly()))
    rootfs = await find_debian_rootfs(base_request(inputs), **implicitly())
    locked = await read_fresh_debian_lock(DebianLockRequest(rootfs), **implicitly())
    await require_host(opam)
    return HealthPlan(inputs, lock, locked, rootfs.suite, FrozenDict(texts_of(lock)))


def rules() -> list[object]:
    return [*collect_rules()]
