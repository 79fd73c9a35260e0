"""What could be checked on a base: packages that are available, and those that depend on others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from opam_oci.host.checks import require_host
from opam_oci.locking.lock_ground import base_lock
from opam_oci.locking.opam_health_lockfile import compilers_of
from opam_oci.locking.root_solutions import RootListRequest, list_roots
from opam_oci.locking.steps import read_output
from opam_oci.pants_engine.rules import implicitly
from opam_oci.resolves.debian_rootfs import find_debian_rootfs
from opam_oci.resolves.health_inputs import HealthInputsRequest, base_request, find_health_inputs
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class Listing:
    """Per compiler ("" for all of them): {"compiler", "packages": [{"name", "version", "synopsis"}], "revdeps": [{"name",
    "version", "of", "distance", "by", "packages"}]}, as the tool's `locking/root_requests.py` has them."""

    compilers: tuple[dict[str, Any], ...]


async def list_of(
    resolve: str,
    opam: OpamSubsystem,
    debian: DebianSubsystem,
    *,
    all_versions: bool = False,
    installable: bool = False,
    revdeps_of: tuple[str, ...] = (),
) -> Listing:
    """Ask opam in a check's base. Raises LockError, LockfileError, FetchError."""
    inputs = await find_health_inputs(HealthInputsRequest(resolve), **implicitly())
    rootfs = await find_debian_rootfs(base_request(inputs), **implicitly())
    await require_host(opam, lock=True)
    locked = await base_lock(rootfs, debian, new=False)
    request = RootListRequest(
        locked,
        # What is available is so with any compiler.
        compilers_of(inputs) if installable or revdeps_of else ("",),
        all_versions=all_versions,
        installable=installable,
        revdeps_of=revdeps_of,
        constraints=inputs.constraints,
    )
    listed = await list_roots(request, **implicitly())
    return Listing(tuple(json.loads(await read_output(listed.digest, "roots.json"))["compilers"]))
