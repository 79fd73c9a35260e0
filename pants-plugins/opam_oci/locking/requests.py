"""What `generate-lockfiles` asks for: a lockfile of each kind."""

from __future__ import annotations

from dataclasses import dataclass

from pants.core.goals.generate_lockfiles import GenerateLockfile

from opam_oci.resolves.debian_rootfs import DebianRootfs


@dataclass(frozen=True)
class GenerateDebianLockfile(GenerateLockfile):
    """The lockfile of a base."""

    rootfs: DebianRootfs


@dataclass(frozen=True)
class GenerateOpamLockfile(GenerateLockfile):
    """The lockfile of an opam resolve. `with_base`: all lockfiles are generated, and the base's with them."""

    with_base: bool


@dataclass(frozen=True)
class GenerateOpamHealthLockfile(GenerateLockfile):
    """The lockfile of a health check. `with_base`: as of GenerateOpamLockfile."""

    with_base: bool
