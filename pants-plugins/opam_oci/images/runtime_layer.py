"""Makes what a runtime image holds above its base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pants.engine.addresses import AddressInput
from pants.engine.engine_aware import EngineAwareParameter
from pants.engine.target import InvalidFieldException
from pants.util.logging import LogLevel

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.runtime_image import OciImageRuntimeBaseField
from opam_oci.images.parts import ImageParts
from opam_oci.pants_engine.calls import parse_address
from opam_oci.pants_engine.rules import collect_rules, implicitly, rule
from opam_oci.resolves.base_images import BaseImage, SlimBaseRequest, find_slim_base
from opam_oci.resolves.lockfile import DebianLock
from opam_oci.resolves.locks import DebianLockRequest, read_fresh_debian_lock
from opam_oci.resolves.targets import address_text
from opam_oci.sandbox.layer import LAYER_OUTPUTS, Layer
from opam_oci.sandbox.process import STORE, Call, layer_paths
from opam_oci.sandbox.run_tool import run_layer_tool

if TYPE_CHECKING:
    from opam_sandbox.imaging.requests import RuntimeRequest


@dataclass(frozen=True)
class RuntimeLayerRequest(EngineAwareParameter):
    """Asks for what a runtime image holds above its base. `state`: the full image's; `env`: `NAME=value` of the image.

    foreign_base: others made the base."""

    parts: ImageParts
    base: Layer
    state: Layer
    env: tuple[str, ...]
    keep: tuple[str, ...]
    foreign_base: bool = False

    def debug_hint(self) -> str:
        return str(self.parts.address)


async def slim_base(field_set: OciPackageImageFieldSet, parts: ImageParts) -> DebianLock | BaseImage:
    """A runtime image's base: a `debian_rootfs`'s lock, or an image. Raises InvalidFieldException for one that does not fit."""
    field = f"The `{OciImageRuntimeBaseField.alias}` field in target {field_set.address}"
    if field_set.runtime_base.value is None:
        raise InvalidFieldException(
            f"{field} is not set, but `{field_set.runtime.alias}` is: name a `debian_rootfs` or an "
            "`oci_base_image` for the image to stand on."
        )
    address = await parse_address(
        AddressInput.parse(
            field_set.runtime_base.value,
            relative_to=field_set.address.spec_path,
            description_of_origin=field[:1].lower() + field[1:],
        )
    )
    found = await find_slim_base(SlimBaseRequest(address_text(address), field), **implicitly())
    full = parts.plan.rootfs
    if found.image is not None:
        if found.architecture != full.architecture:
            raise InvalidFieldException(
                f"{field} is {address} ({found.architecture}), but the packages are built in {full.address} "
                f"({full.architecture}): programs run on the architecture that they were built for."
            )
        return found.image
    rootfs = found.rootfs
    assert rootfs is not None
    if (rootfs.suite, rootfs.architecture) != (full.suite, full.architecture):
        raise InvalidFieldException(
            f"{field} is {address} ({rootfs.suite}, {rootfs.architecture}), but the packages are built in {full.address} "
            f"({full.suite}, {full.architecture}): programs need the libraries of the suite that they were linked in."
        )
    return await read_fresh_debian_lock(DebianLockRequest(rootfs), **implicitly())


@rule(desc="Make runtime layer", level=LogLevel.DEBUG)
async def make_runtime_layer(request: RuntimeLayerRequest) -> Layer:
    """The files of an image that its roots need to run. Raises LayerError."""
    parts = request.parts
    full = (*parts.ground.layers, *parts.layers, request.state)
    roots = {name for selection in parts.selections for name in selection.names}
    values: RuntimeRequest = {
        "store": STORE,
        "slim": layer_paths((request.base,))[0],
        "layers": [f"in/{number}" for number in range(1, len(full) + 1)],
        "packages": [
            {
                "name": union.package.name,
                "opam": union.package.opam,
                "depends": sorted(union.package.depends),
                "root": union.package.name in roots,
            }
            for union in parts.packages
        ],
        "keep": list(request.keep),
        "env": list(request.env),
    }
    if request.foreign_base:
        values["foreign_base"] = True
    layers = (request.base, *full)
    call = Call("runtime", f"Make the runtime layer of {parts.address}", values, layers, LAYER_OUTPUTS)
    return await run_layer_tool(call)


def rules() -> list[object]:
    return [*collect_rules()]
