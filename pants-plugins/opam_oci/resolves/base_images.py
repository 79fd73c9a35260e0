"""Bases that others made as images, and the bases that a runtime image may stand on, of either kind."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pants.engine.addresses import Address
from pants.engine.target import InvalidTargetException, Target

from opam_oci.fields.base_image import LAYOUT, SCRATCH, OciBaseImageDigestField, OciBaseImageImageField
from opam_oci.fields.debian import DebianArchitectureField, DebianSuiteField
from opam_oci.pants_engine.rules import collect_rules, rule
from opam_oci.resolves.debian_rootfs import DebianRootfs, debian_rootfs_of, target_named
from opam_oci.target_types import DebianRootfsTarget, OciBaseImageTarget


@dataclass(frozen=True)
class BaseImage:
    """An `oci_base_image` target's fields. `digest` is "" for an image from scratch."""

    address: Address
    image: str
    digest: str
    architecture: str

    @property
    def is_scratch(self) -> bool:
        """Whether it has no layers."""
        return self.image == SCRATCH

    @property
    def reference(self) -> str:
        """What people call it."""
        return self.image if self.is_scratch else f"{self.image}@{self.digest}"

    def layout(self, build_root: str) -> str:
        """The absolute directory of its layout, "" where it is of a registry."""
        if not self.image.startswith(LAYOUT):
            return ""
        return os.path.normpath(os.path.join(build_root, os.path.expanduser(self.image[len(LAYOUT) :])))


@dataclass(frozen=True)
class SlimBase:
    """What a runtime image may stand on: one of the two is there."""

    rootfs: DebianRootfs | None
    image: BaseImage | None

    @property
    def address(self) -> Address:
        """Of its target."""
        base = self.rootfs or self.image
        assert base is not None
        return base.address

    @property
    def architecture(self) -> str:
        """As Debian calls it."""
        base = self.rootfs or self.image
        assert base is not None
        return base.architecture


@dataclass(frozen=True)
class SlimBaseRequest:
    """A base by its address as written in `origin`, a phrase for error messages."""

    address: str
    origin: str


def base_image_of(target: Target) -> BaseImage:
    """An `oci_base_image` target's fields."""
    return BaseImage(
        address=target.address,
        image=target[OciBaseImageImageField].value,
        digest=target[OciBaseImageDigestField].value or "",
        architecture=target[DebianArchitectureField].value,
    )


@rule
async def find_slim_base(request: SlimBaseRequest) -> SlimBase:
    """The base at an address. Raises InvalidTargetException for another target."""
    target = await target_named(request.address, request.origin)
    if target.has_field(OciBaseImageImageField):
        return SlimBase(None, base_image_of(target))
    if target.has_field(DebianSuiteField):
        return SlimBase(debian_rootfs_of(target), None)
    raise InvalidTargetException(
        f"{request.origin} names {target.address}, which is a `{target.alias}`; it must be a `{DebianRootfsTarget.alias}` or an "
        f"`{OciBaseImageTarget.alias}`."
    )


def rules() -> list[object]:
    return [*collect_rules()]
