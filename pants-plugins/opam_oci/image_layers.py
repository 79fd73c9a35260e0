"""Makes an image's layers out of those of its packages: the state layer, groups, other compressions, runtime layers."""

from __future__ import annotations

from typing import Any

from pants.engine.addresses import AddressInput
from pants.engine.fs import CreateDigest
from pants.engine.target import InvalidFieldException
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from opam_oci.engine import (
    addresses_of,
    build_plan,
    collect_rules,
    concurrently,
    create_digest,
    foundation,
    package_layer,
    parse_address,
    rule,
    run_process,
    sandbox_tool,
    targets_of,
)
from opam_oci.image_packages import PackageSelection, packages_by_resolve, union_of
from opam_oci.image_products import ImageParts, ImagePartsRequest, PackedLayerRequest, RuntimeLayerRequest
from opam_oci.layers import LayerError, build_log, failure_text, layer_of, package_json
from opam_oci.products import (
    BuildPlan,
    BuildPlanRequest,
    Foundation,
    FoundationRequest,
    Layer,
    PackageLayerRequest,
    PackageOutcome,
    SandboxTool,
)
from opam_oci.sandbox import Call, layer_paths, request_file, tool_process
from opam_oci.target_types import OciImageBaseField, OciImagePackagesField


class PackagesFailedError(Exception):
    """Some packages of an image could not be built; the message tells all about each."""


def check_outcomes(image: object, outcomes: tuple[PackageOutcome, ...]) -> None:
    """Raise PackagesFailedError unless every package has its layer."""
    failed = sorted({(o.package, o.failed) for o in outcomes if o.failed is not None})
    blocked = sorted({(o.package, o.blocked_by) for o in outcomes if o.blocked_by})
    if not failed and not blocked:
        return
    parts = [f"The image {image} was not written: {pluralize(len(failed), 'package')} failed."]
    parts.extend(f"{package} failed: {message}" for package, message in failed)
    if blocked:
        listed = "".join(f"\n  * {package} (because of {', '.join(culprits)})" for package, culprits in blocked)
        parts.append(f"Not built:{listed}")
    raise PackagesFailedError("\n\n".join(parts))


def check_bases(image: object, selections: tuple[PackageSelection, ...], plans: tuple[BuildPlan, ...]) -> None:
    """Raise InvalidFieldException unless all resolves are built in one base."""
    if len({plan.rootfs.address for plan in plans}) > 1:
        listed = "; ".join(
            f"`{selection.resolve}` in {plan.rootfs.address} ({', '.join(selection.names)})"
            for selection, plan in zip(selections, plans)
        )
        raise InvalidFieldException(
            f"The `{OciImagePackagesField.alias}` field in target {image} mixes packages of several resolves that are built "
            f"in different bases, which one image cannot hold: {listed}. `[opam].resolves_to_base` decides on it."
        )


@rule(desc="Build the packages of an image", level=LogLevel.DEBUG)
async def build_image_parts(request: ImagePartsRequest) -> ImageParts:
    field_set = request.field_set
    image = field_set.address
    selections = packages_by_resolve(
        image, await targets_of(await addresses_of(field_set.packages.to_unparsed_address_inputs()))
    )
    plans: tuple[BuildPlan, ...] = await concurrently(
        build_plan(BuildPlanRequest(selection.resolve)) for selection in selections
    )
    check_bases(image, selections, plans)
    if field_set.base.value is not None:
        given = await parse_address(
            AddressInput.parse(
                field_set.base.value,
                relative_to=image.spec_path,
                description_of_origin=f"the `{OciImageBaseField.alias}` field of {image}",
            )
        )
        if given != plans[0].rootfs.address:
            raise InvalidFieldException(
                f"The `{OciImageBaseField.alias}` field in target {image} is {given}, but its packages are of the resolve "
                f"`{selections[0].resolve}`, which `[opam].resolves_to_base` builds in {plans[0].rootfs.address}. Packages "
                "run only on the base that they were built in: leave the field out, or take packages of a resolve with "
                "that base."
            )
    locks = {selection.resolve: plan.lock for selection, plan in zip(selections, plans)}
    packages = union_of(image, selections, locks)
    asked = [(resolve, union.package.name) for union in packages for resolve in union.resolves]
    outcomes: tuple[PackageOutcome, ...] = await concurrently(
        package_layer(PackageLayerRequest(resolve, name)) for resolve, name in asked
    )
    check_outcomes(image, outcomes)
    layers = {name: outcome.layers[name] for (_, name), outcome in zip(asked, outcomes)}
    for (resolve, name), outcome in zip(asked, outcomes):
        if outcome.layers[name].diff_id != layers[name].diff_id:
            raise LayerError(
                f"{image}: {name} is another layer in the resolve `{resolve}` than in {', '.join(sorted(locks))}, although "
                "it is locked the same. Something in its build is not reproducible."
            )
    ground: Foundation = await foundation(FoundationRequest(plans[0].debian_lock))
    return ImageParts(
        address=image,
        selections=selections,
        plan=plans[0],
        ground=ground,
        packages=tuple(packages),
        layers=tuple(layers[union.package.name] for union in packages),
        debs=tuple(
            sorted(
                {locks[union.resolves[0]].debs[name] for union in packages for name in union.package.debs},
                key=lambda deb: (deb.name, deb.version),
            )
        ),
    )


async def make_state_layer(parts: ImageParts, below: tuple[Layer, ...]) -> Layer:
    """The layer that makes opam's and dpkg's records right for the image. `below`: all others, bottom first."""
    names = {union.package.name: union.package.full_name for union in parts.packages}
    values = {
        "store": "store",
        "layers": layer_paths(below),
        "packages": [package_json(union.package) for union in parts.packages],
        "roots": sorted({names[name] for selection in parts.selections for name in selection.names}),
    }
    return await run_layer_tool("state", f"Make the state layer of {parts.address}", values, below)


async def run_layer_tool(command: str, description: str, values: dict[str, Any], layers: tuple[Layer, ...]) -> Layer:
    """Run a command that makes one layer. Raises LayerError."""
    tool: SandboxTool = await sandbox_tool()
    call = Call(command, description, values, layers, ("layer.json", "build.log", "timings.json"))
    result = await run_process(tool_process(tool, call, await create_digest(CreateDigest([request_file(values)]))))
    if result.exit_code != 0:
        log = await build_log(result)
        raise LayerError(f"{description} failed.\n{failure_text(result, log, whole_log=False)}")
    return await layer_of(result, description)


@rule(desc="Pack layer", level=LogLevel.DEBUG)
async def pack_layer(request: PackedLayerRequest) -> Layer:
    packing = {"store": "store", "compression": request.compression, "level": request.level}
    if len(request.layers) == 1 and not request.whole:
        [layer] = request.layers
        layers = (request.base,) if layer == request.base else (request.base, layer)
        values = {**packing, "layers": layer_paths(layers)}
        return await run_layer_tool("repack", f"Compress {layer.full_name} with {request.compression}", values, layers)
    first, last = request.layers[0].full_name, request.layers[-1].full_name
    description = f"Join the layers of {pluralize(len(request.layers), 'package')} ({first} ... {last})"
    if request.whole:
        description = f"Join all {len(request.layers)} layers of an image ({first} ... {request.layers[-2].full_name})"
    layers = request.layers if request.whole else (request.base, *request.layers)
    values = {**packing, "layers": layer_paths(layers), "name": "image" if request.whole else "group"}
    return await run_layer_tool("merge", description, {**values, "whole": request.whole}, layers)


@rule(desc="Make runtime layer", level=LogLevel.DEBUG)
async def make_runtime_layer(request: RuntimeLayerRequest) -> Layer:
    parts = request.parts
    full = (*parts.ground.layers, *parts.layers)
    roots = {name for selection in parts.selections for name in selection.names}
    values = {
        "store": "store",
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
    }
    return await run_layer_tool("runtime", f"Make the runtime layer of {parts.address}", values, (request.base, *full))


def rules() -> list[object]:
    return [*collect_rules()]
