"""Makes the lockfile of a base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.engine_aware import EngineAwareParameter
from pants.util.logging import LogLevel

from opam_oci.downloads.credentials import places
from opam_oci.host.checks import require_host
from opam_oci.locking.steps import lock_call, read_output, require_mirrors, run_step
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.resolves.debian_rootfs import DebianRootfs
from opam_oci.sandbox.process import STORE
from opam_oci.subsystems.opam import OpamSubsystem

if TYPE_CHECKING:
    from opam_sandbox.locking.requests import LockDebianRequest


@dataclass(frozen=True)
class DebianLockTextRequest(EngineAwareParameter):
    """Asks the Debian archive what a base consists of today."""

    rootfs: DebianRootfs

    def debug_hint(self) -> str:
        return self.rootfs.resolve


@dataclass(frozen=True)
class DebianLockText:
    """A lockfile of a base, just made."""

    content: bytes


@rule(desc="Lock Debian base", level=LogLevel.DEBUG)
async def lock_debian(request: DebianLockTextRequest, opam: OpamSubsystem) -> DebianLockText:
    """Look the base's packages up in the Debian archive. Raises LockError, FetchError, MissingHostToolsError."""
    rootfs = request.rootfs
    await require_host(opam, lock=True)
    mirrors = places((await require_mirrors()).urls)
    values: LockDebianRequest = {
        "store": STORE,
        "resolve": rootfs.resolve,
        "suite": rootfs.suite,
        "architecture": rootfs.architecture,
        "packages": list(rootfs.packages),
        "mirrors": [mirror.url for mirror in mirrors],
    }
    call = lock_call(
        "lock-debian", f"Lock the Debian packages of {rootfs.resolve}", values, ("lockfile",), network=True
    )
    digest = await run_step(call, (), f"generate the lockfile of the resolve `{rootfs.resolve}`", mirrors)
    return DebianLockText(await read_output(digest, "lockfile"))


def rules() -> list[object]:
    return [*collect_rules()]
