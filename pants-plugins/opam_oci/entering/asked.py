"""Which packages the targets on a command line mean, for goals that run something over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from pants.engine.target import Target

from opam_oci.entering.errors import EnteringError
from opam_oci.fields.opam import OpamPackageNameField, OpamPackageVersionField, OpamResolveField
from opam_oci.fields.projects import OpamProjectFileField
from opam_oci.resolves.projects import owns_an_opam_file

TAKEN = "`opam_package` targets, such as `3rdparty/opam:default#lwt`, and for `opam_local_package` and `opam_project` targets"


@dataclass(frozen=True)
class Asked:
    """Packages of one resolve, by name, sorted: released ones, and those of projects. projects: the directories of those, in the
    build root, sorted."""

    resolve: str
    released: tuple[str, ...]
    local: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(sorted({*self.released, *self.local}))


def is_package(target: Target) -> bool:
    """Whether a target is of a package."""
    return bool(target.has_fields([OpamPackageNameField, OpamPackageVersionField]))


def asked_of(targets: Iterable[Target], goal: str) -> Asked:
    """What targets mean. Raises EnteringError where they are none of packages, or of several resolves."""
    by_resolve: dict[str, list[Target]] = {}
    for target in targets:
        if owns_an_opam_file(target):
            continue  # an `opam_project` stands for its opam files as well
        if not is_package(target):
            raise EnteringError(f"`{goal}` is for {TAKEN}, but {target.address} is a `{target.alias}`.")
        by_resolve.setdefault(target[OpamResolveField].value or "", []).append(target)
    if not by_resolve:
        raise EnteringError(f"`{goal}` is for {TAKEN}; the command line names none.")
    if len(by_resolve) > 1:
        raise EnteringError(
            f"`{goal}` takes targets of one resolve, as packages of several may not fit together, but the command line names "
            f"some of {', '.join(f'`{name}`' for name in sorted(by_resolve))}."
        )
    [(resolve, found)] = by_resolve.items()
    local = [target for target in found if target.has_field(OpamProjectFileField)]
    released = {target[OpamPackageNameField].value for target in found if target not in local}
    return Asked(
        resolve,
        tuple(sorted(released)),
        tuple(sorted({target[OpamPackageNameField].value for target in local})),
        tuple(sorted({target.address.spec_path for target in local})),
    )
