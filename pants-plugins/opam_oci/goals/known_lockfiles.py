"""Which lockfiles `generate-lockfiles` knows: the resolves of `[debian]`, `[opam]` and `[opam-health]`."""

from __future__ import annotations

from pants.core.goals.generate_lockfiles import (
    KnownUserResolveNames,
    KnownUserResolveNamesRequest,
    RequestedUserResolveNames,
)
from pants.engine.unions import UnionRule

from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.subsystems.debian import DebianSubsystem
from opam_oci.subsystems.opam import OpamSubsystem
from opam_oci.subsystems.opam_health import OpamHealthSubsystem


class KnownDebianResolveNamesRequest(KnownUserResolveNamesRequest):
    """Asks for the names in `[debian].resolves`."""

    pass


class RequestedDebianResolveNames(RequestedUserResolveNames):
    """Names of bases whose lockfiles are asked for."""

    pass


class KnownOpamResolveNamesRequest(KnownUserResolveNamesRequest):
    """Asks for the names in `[opam].resolves`."""

    pass


class KnownOpamHealthResolveNamesRequest(KnownUserResolveNamesRequest):
    """Asks for the names in `[opam-health].resolves`."""

    pass


class RequestedOpamHealthResolveNames(RequestedUserResolveNames):
    """Names of health checks whose lockfiles are asked for."""

    pass


class RequestedOpamResolveNames(RequestedUserResolveNames):
    """Names of opam resolves whose lockfiles are asked for."""

    pass


@rule
def known_debian_resolves(_: KnownDebianResolveNamesRequest, debian: DebianSubsystem) -> KnownUserResolveNames:
    """The names in `[debian].resolves`."""
    return KnownUserResolveNames(
        names=tuple(sorted(debian.resolves)),
        option_name="[debian].resolves",
        requested_resolve_names_cls=RequestedDebianResolveNames,
    )


@rule
def known_opam_resolves(_: KnownOpamResolveNamesRequest, opam: OpamSubsystem) -> KnownUserResolveNames:
    """The names in `[opam].resolves`."""
    return KnownUserResolveNames(
        names=tuple(sorted(opam.resolves)),
        option_name="[opam].resolves",
        requested_resolve_names_cls=RequestedOpamResolveNames,
    )


@rule
def known_opam_health_resolves(
    _: KnownOpamHealthResolveNamesRequest, health: OpamHealthSubsystem
) -> KnownUserResolveNames:
    """The names in `[opam-health].resolves`."""
    return KnownUserResolveNames(
        names=tuple(sorted(health.resolves)),
        option_name="[opam-health].resolves",
        requested_resolve_names_cls=RequestedOpamHealthResolveNames,
    )


def rules() -> list[object]:
    return [
        *collect_rules(),
        UnionRule(KnownUserResolveNamesRequest, KnownDebianResolveNamesRequest),
        UnionRule(KnownUserResolveNamesRequest, KnownOpamResolveNamesRequest),
        UnionRule(KnownUserResolveNamesRequest, KnownOpamHealthResolveNamesRequest),
        UnionRule(RequestedUserResolveNames, RequestedDebianResolveNames),
        UnionRule(RequestedUserResolveNames, RequestedOpamResolveNames),
        UnionRule(RequestedUserResolveNames, RequestedOpamHealthResolveNames),
    ]
