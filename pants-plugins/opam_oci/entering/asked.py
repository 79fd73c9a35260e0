"""Which packages the targets on a command line mean, for goals that run something over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from pants.engine.target import Target

from opam_oci.entering.errors import EnteringError
from opam_oci.fields.opam import OpamPackageNameField, OpamPackageVersionField, OpamResolveField


@dataclass(frozen=True)
class Asked:
    """Packages of one resolve, by name."""

    resolve: str
    names: tuple[str, ...]


def is_package(target: Target) -> bool:
    """Whether a target is of a package."""
    return bool(target.has_fields([OpamPackageNameField, OpamPackageVersionField]))


def asked_of(targets: Iterable[Target], goal: str) -> Asked:
    """What targets mean. Raises EnteringError where they are none of packages, or of several resolves."""
    by_resolve: dict[str, set[str]] = {}
    for target in targets:
        if not is_package(target):
            raise EnteringError(
                f"`{goal}` is for `opam_package` targets, such as `3rdparty/opam:default#lwt`, but {target.address} is a "
                f"`{target.alias}`."
            )
        by_resolve.setdefault(target[OpamResolveField].value or "", set()).add(target[OpamPackageNameField].value)
    if not by_resolve:
        raise EnteringError(
            f"`{goal}` is for `opam_package` targets, such as `3rdparty/opam:default#lwt`; the command line names none."
        )
    if len(by_resolve) > 1:
        raise EnteringError(
            f"`{goal}` takes targets of one resolve, as packages of several may not fit together, but the command line names "
            f"some of {', '.join(f'`{name}`' for name in sorted(by_resolve))}."
        )
    [(resolve, names)] = by_resolve.items()
    return Asked(resolve, tuple(sorted(names)))
