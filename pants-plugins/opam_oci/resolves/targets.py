"""Finds targets without expanding target generators."""

from __future__ import annotations

from dataclasses import dataclass

from pants.base.specs import AddressLiteralSpec, RawSpecsWithoutFileOwners, RecursiveGlobSpec
from pants.engine.addresses import Address
from pants.engine.target import UnexpandedTargets

from opam_oci.pants_engine.calls import address_families, unexpanded_targets
from opam_oci.pants_engine.rules import collect_rules, rule


@dataclass(frozen=True)
class TargetsOfTypeRequest:
    """All targets of a type that neither generates targets nor is generated."""

    alias: str


@rule
async def find_targets_of_type(request: TargetsOfTypeRequest) -> UnexpandedTargets:
    """Finds targets without expanding any target generator.

    The usual ways to all targets of a project also expand `opam_packages`, which needs the lockfile that is perhaps
    about to be written from what is found here.
    """
    origin = f"the search for `{request.alias}` targets"
    families = await address_families(
        RawSpecsWithoutFileOwners(recursive_globs=(RecursiveGlobSpec(""),), description_of_origin=origin)
    )
    literals = sorted(
        (address.spec_path, address.target_name)
        for family in families
        for address, adaptor in family.addresses_to_target_adaptors.items()
        if adaptor.type_alias == request.alias
    )
    targets = await unexpanded_targets(
        RawSpecsWithoutFileOwners(
            address_literals=tuple(AddressLiteralSpec(path, name) for path, name in literals),
            description_of_origin=origin,
        )
    )
    return targets


def address_text(address: Address) -> str:
    """How lockfiles and messages write an address."""
    return address.spec if address.spec.startswith("//") else f"//{address.spec}"


def rules() -> list[object]:
    return [*collect_rules()]
