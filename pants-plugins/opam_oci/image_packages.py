"""Which packages of which resolve an image asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from pants.engine.addresses import Address
from pants.engine.target import InvalidFieldException, Target

from opam_oci.target_types import (
    OciImagePackagesField,
    OpamPackageNameField,
    OpamPackageTarget,
    OpamPackageVersionField,
    OpamResolveField,
)


@dataclass(frozen=True)
class PackageSelection:
    """Packages by name, sorted, all of one resolve."""

    resolve: str
    names: tuple[str, ...]


def packages_of_one_resolve(image: Address, targets: Iterable[Target]) -> PackageSelection:
    """The packages that an image's `packages` field names. Raises InvalidFieldException for anything else."""
    field = f"The `{OciImagePackagesField.alias}` field in target {image}"
    by_resolve: dict[str, dict[str, Address]] = {}
    for target in targets:
        if not target.has_fields([OpamPackageNameField, OpamPackageVersionField]):
            raise InvalidFieldException(
                f"{field} names {target.address}, which is a `{target.alias}`; it takes `{OpamPackageTarget.alias}` "
                "targets."
            )
        resolve = target[OpamResolveField].value
        assert resolve is not None
        by_resolve.setdefault(resolve, {})[target[OpamPackageNameField].value] = target.address
    if not by_resolve:
        raise InvalidFieldException(f"{field} is empty; it takes the addresses of `{OpamPackageTarget.alias}` targets.")
    if len(by_resolve) > 1:
        listed = "; ".join(
            f"{resolve}: {', '.join(str(a) for a in sorted(packages.values()))}"
            for resolve, packages in sorted(by_resolve.items())
        )
        raise InvalidFieldException(f"{field} mixes packages of several resolves, which an image cannot: {listed}.")
    [(resolve, packages)] = by_resolve.items()
    return PackageSelection(resolve, tuple(sorted(packages)))
