"""Wraps requests for lockfiles, as Pants before 2.33 wants them. Newer Pants has no class for it: import only where needed."""

from __future__ import annotations

from pants.core.goals.generate_lockfiles import WrappedGenerateLockfile

from opam_oci.locking.requests import GenerateDebianLockfile, GenerateOpamHealthLockfile, GenerateOpamLockfile
from opam_oci.pants_engine.rules import collect_rules, rule


@rule
def wrap_debian_request(request: GenerateDebianLockfile) -> WrappedGenerateLockfile:
    """A base's request, wrapped."""
    return WrappedGenerateLockfile(request)


@rule
def wrap_opam_request(request: GenerateOpamLockfile) -> WrappedGenerateLockfile:
    """An opam resolve's request, wrapped."""
    return WrappedGenerateLockfile(request)


@rule
def wrap_opam_health_request(request: GenerateOpamHealthLockfile) -> WrappedGenerateLockfile:
    """A health check's request, wrapped."""
    return WrappedGenerateLockfile(request)


def rules() -> list[object]:
    return [*collect_rules()]
