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


async def target_named(address: str, origin: str) -> Target:
    """The target at an address as written in `origin`, a phrase for error messages. Raises what Pants says of addresses."""
    parsed = await parse_address(AddressInput.parse(address, description_of_origin=origin))
    wrapped = await target_at(WrappedTargetRequest(parsed, description_of_origin=origin))
    target: Target = wrapped.target
    return target


@rule
async def find_debian_rootfs(request: DebianRootfsRequest) -> DebianRootfs:
    """The `debian_rootfs` at an address. Raises InvalidTargetException for another target."""
    target = await target_named(request.address, request.origin)
    if target.has_field(OciBaseImageImageField):
        raise InvalidTargetException(
            f"{request.origin} names {target.address}, which is an `{target.alias}`. Packages are not built in such an image, "
            f"whatever is in it: their depexts can be locked for a `{DebianRootfsTarget.alias}` only. Name one; images may "
            f"stand on {target.address} by `runtime_base`."
        )
    if not target.has_field(DebianSuiteField):
        raise InvalidTargetException(
            f"{request.origin} names {target.address}, which is a `{target.alias}`; it must be a `{DebianRootfsTarget.alias}`."
        )
    return debian_rootfs_of(target)


def rules() -> list[object]:
    return [*collect_rules()]
