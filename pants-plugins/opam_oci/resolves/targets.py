"""Finds targets without expanding target generators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

from pants.base.specs import AddressLiteralSpec, RawSpecsWithoutFileOwners, RecursiveGlobSpec
from pants.engine.addresses import Address
from pants.engine.internals.mapper import AddressFamilies
from pants.engine.internals.parametrize import Parametrize
from pants.engine.internals.target_adaptor import TargetAdaptor
from pants.engine.target import UnexpandedTargets

from opam_oci.fields.opam import OpamResolveField
from opam_oci.pants_engine.calls import address_families, unexpanded_targets
from opam_oci.pants_engine.rules import collect_rules, rule


@dataclass(frozen=True)
class TargetsOfTypeRequest:
    """All targets of a type that neither generates targets nor is generated."""

    alias: str


def everything(origin: str) -> RawSpecsWithoutFileOwners:
    """All directories of the project; `origin` is for error messages."""
    return RawSpecsWithoutFileOwners(recursive_globs=(RecursiveGlobSpec(""),), description_of_origin=origin)


def declared(families: AddressFamilies, alias: str) -> Iterator[tuple[Address, TargetAdaptor]]:
    """What BUILD files say of the targets of a type."""
    for family in families:
        for address, adaptor in family.addresses_to_target_adaptors.items():
            if adaptor.type_alias == alias:
                yield address, adaptor


@rule
async def find_targets_of_type(request: TargetsOfTypeRequest) -> UnexpandedTargets:
    """Finds targets without expanding any target generator.

    The usual ways to all targets of a project also expand `opam_packages`, which needs the lockfile that is perhaps
    about to be written from what is found here.
    """
    origin = f"the search for `{request.alias}` targets"
    families = await address_families(everything(origin))
    literals = sorted((address.spec_path, address.target_name) for address, _ in declared(families, request.alias))
    targets = await unexpanded_targets(
        RawSpecsWithoutFileOwners(
            address_literals=tuple(AddressLiteralSpec(path, name) for path, name in literals),
            description_of_origin=origin,
        )
    )
    return targets


@dataclass(frozen=True)
class DeclaredResolvesRequest:
    """The resolves that targets of a type name, also of one that generates targets."""

    alias: str


@dataclass(frozen=True)
class DeclaredResolves:
    """Resolves by name; "" where a target names none."""

    names: tuple[str, ...]


@rule
async def find_declared_resolves(request: DeclaredResolvesRequest) -> DeclaredResolves:
    """Finds resolves without reading a lockfile, all of those that a field with `parametrize` has."""
    families = await address_families(everything(f"the search for resolves of `{request.alias}` targets"))
    found = {
        fields.get(OpamResolveField.alias) or ""
        for address, adaptor in declared(families, request.alias)
        for _, fields in Parametrize.expand(address, adaptor.kwargs)
    }
    return DeclaredResolves(tuple(sorted(found)))


def address_text(address: Address) -> str:
    """How lockfiles and messages write an address."""
    return address.spec if address.spec.startswith("//") else f"//{address.spec}"


def rules() -> list[object]:
    return [*collect_rules()]
