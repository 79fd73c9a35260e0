"""Which packages an `opam_docs` is of, and which of its resolve brings odoc."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from pants.core.goals.package import OutputPathField, PackageFieldSet
from pants.engine.addresses import Address, Addresses, AddressInput
from pants.engine.target import (
    FieldSet,
    InferDependenciesRequest,
    InferredDependencies,
    InvalidFieldException,
    Target,
    Targets,
)
from pants.engine.unions import UnionRule

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.docs import (
    OpamDocsOdocField,
    OpamDocsPackagesField,
    OpamDocsTitleField,
    OpamDocsWithDependenciesField,
)
from opam_oci.images.packages import PackageSelection, packages_by_resolve
from opam_oci.pants_engine.calls import addresses_of, parse_address, targets_of
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.lockfile import OpamLock
from opam_oci.resolves.package_addresses import PackageTargetsRequest, find_package_targets

# The package that is taken where the field `odoc` names none.
ODOC = "odoc"


@dataclass(frozen=True)
class OpamDocsFieldSet(PackageFieldSet):
    required_fields = (OpamDocsPackagesField, OpamDocsOdocField)

    packages: OpamDocsPackagesField
    odoc: OpamDocsOdocField
    with_dependencies: OpamDocsWithDependenciesField
    title: OpamDocsTitleField
    output_path: OutputPathField


@dataclass(frozen=True)
class DocsDependenciesFieldSet(FieldSet):
    required_fields = (OpamDocsPackagesField, OpamDocsOdocField)

    packages: OpamDocsPackagesField
    odoc: OpamDocsOdocField


class InferDocsDependencies(InferDependenciesRequest):
    """Asks for the dependencies of an `opam_docs` that `packages` does not name."""

    infer_from = DocsDependenciesFieldSet


async def named_packages(address: Address, packages: OpamDocsPackagesField) -> PackageSelection:
    """The packages that the field names, those of images among them. Raises InvalidFieldException."""
    named = await targets_of(await addresses_of(packages.to_unparsed_address_inputs()))
    found: list[Target] = []
    for target in named:
        if OciPackageImageFieldSet.is_applicable(target):
            image = OciPackageImageFieldSet.create(target)
            found += await targets_of(await addresses_of(image.packages.to_unparsed_address_inputs()))
        else:
            found.append(target)
    selections = packages_by_resolve(address, found)
    if len(selections) > 1:
        raise InvalidFieldException(
            f"The `{packages.alias}` field in target {address} names packages of the resolves "
            f"{', '.join(selection.resolve for selection in selections)}. One odoc documents one resolve: write an `opam_docs` "
            "for each."
        )
    return selections[0]


async def odoc_address(address: Address, odoc: OpamDocsOdocField) -> Address | None:
    """What the field names, if anything."""
    if odoc.value is None:
        return None
    origin = f"the `{odoc.alias}` field in target {address}"
    return await parse_address(
        AddressInput.parse(odoc.value, relative_to=address.spec_path, description_of_origin=origin)
    )


def odoc_name(address: Address, selection: PackageSelection, named: Iterable[Target], lock: OpamLock) -> str:
    """The package that brings odoc. named: what the field `odoc` names, if anything. Raises InvalidFieldException."""
    field = f"The `{OpamDocsOdocField.alias}` field in target {address}"
    targets = Targets(named)
    if not targets:
        if ODOC not in lock.packages:
            raise InvalidFieldException(
                f"{field} is not set, and the resolve `{selection.resolve}` has no package {ODOC}. Add one that brings odoc to "
                "its requirements, and name it in the field unless it is called so."
            )
        return ODOC
    [brings] = packages_by_resolve(address, targets) if len(targets) == 1 else (None,)
    if brings is None or len(brings.names) != 1 or brings.resolve != selection.resolve:
        raise InvalidFieldException(
            f"{field} names {', '.join(str(target.address) for target in targets)}; it takes one `opam_package` of the resolve "
            f"`{selection.resolve}`, which the documented packages are of."
        )
    return brings.names[0]


@rule
async def infer_docs_dependencies(request: InferDocsDependencies) -> InferredDependencies:
    """The package that brings odoc."""
    field_set = request.field_set
    named = await odoc_address(field_set.address, field_set.odoc)
    if named is not None:
        return InferredDependencies([named])
    selection = await named_packages(field_set.address, field_set.packages)
    targets = await find_package_targets(PackageTargetsRequest(selection.resolve), **implicitly())
    return InferredDependencies([targets.addresses[ODOC]] if ODOC in targets.addresses else [])


async def odoc_targets(field_set: OpamDocsFieldSet) -> Targets:
    """The targets that the field `odoc` names."""
    address = await odoc_address(field_set.address, field_set.odoc)
    return Targets() if address is None else await targets_of(Addresses([address]))


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(InferDependenciesRequest, InferDocsDependencies)]
