"""A base: its target's fields, defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass

from pants.engine.addresses import Address, AddressInput
from pants.engine.target import InvalidTargetException, Target, WrappedTargetRequest

from opam_oci.fields.base_image import OciBaseImageImageField
from opam_oci.fields.debian import DebianArchitectureField, DebianPackagesField, DebianResolveField, DebianSuiteField
from opam_oci.pants_engine.calls import parse_address, target_at
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.target_types import DebianRootfsTarget


@dataclass(frozen=True)
class DebianRootfs:
    """A `debian_rootfs` target's fields, defaults filled in."""

    address: Address
    resolve: str
    suite: str
    architecture: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class DebianRootfsRequest:
    """A `debian_rootfs` by its address as written in `origin`, a phrase for error messages."""

    address: str
    origin: str


def debian_rootfs_of(target: Target) -> DebianRootfs:
    """A `debian_rootfs` target's fields, defaults filled in."""
    return DebianRootfs(
        address=target.address,
        resolve=target[DebianResolveField].value_or_default(target.address),
        suite=target[DebianSuiteField].value,
        architecture=target[DebianArchitectureField].value,
        packages=tuple(sorted(set(target[DebianPackagesField].value))),
    )


@rule
async def find_debian_rootfs(request: DebianRootfsRequest) -> DebianRootfs:
    """The `debian_rootfs` at an address. Raises InvalidTargetException for another target."""
    address = await parse_address(AddressInput.parse(request.address, description_of_origin=request.origin))
    wrapped = await target_at(WrappedTargetRequest(address, description_of_origin=request.origin))
    target: Target = wrapped.target
    if target.has_field(OciBaseImageImageField):
        raise InvalidTargetException(
            f"{request.origin} names {address}, which is an `{target.alias}`. Packages are not built in such an image, whatever "
            f"is in it: their depexts can be locked for a `{DebianRootfsTarget.alias}` only. Name one; images may stand on "
            f"{address} by `runtime_base`."
        )
    if not target.has_field(DebianSuiteField):
        raise InvalidTargetException(
            f"{request.origin} names {address}, which is a `{target.alias}`; it must be a `{DebianRootfsTarget.alias}`."
        )
    return debian_rootfs_of(target)


def rules() -> list[object]:
    return [*collect_rules()]
