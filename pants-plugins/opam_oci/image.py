"""`package` for `oci_package_image`: an OCI image layout out of layers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from pants.core.goals.package import (
    BuiltPackage,
    BuiltPackageArtifact,
    OutputPathField,
    PackageFieldSet,
)
from pants.engine.addresses import Address, AddressInput
from pants.engine.fs import (
    EMPTY_DIGEST,
    AddPrefix,
    CreateDigest,
    DigestSubset,
    FileEntry,
    MergeDigests,
    PathGlobs,
)
from pants.engine.target import InvalidFieldException
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from opam_oci.engine import (
    add_prefix,
    addresses_of,
    build_plan,
    collect_rules,
    concurrently,
    create_digest,
    digest_contents,
    digest_entries,
    digest_subset,
    executing_goals,
    foundation,
    merge_digests,
    package_layer,
    parse_address,
    rule,
    run_process,
    sandbox_tool,
    targets_of,
)
from opam_oci.image_packages import packages_of_one_resolve
from opam_oci.layers import (
    LayerError,
    blob_path,
    build_log,
    check_blobs,
    failure_text,
    layer_of,
    package_json,
)
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
from opam_oci.target_types import (
    OciImageAnnotationsField,
    OciImageBaseField,
    OciImageCmdField,
    OciImageEntrypointField,
    OciImageEnvField,
    OciImageLabelsField,
    OciImagePackagesField,
    OciImageSkipPushField,
    OciImageUserField,
    OciImageWorkdirField,
)

_SWITCH = "/home/opam/.opam/default"

# What `opam env` would set for the one switch of an image.
DEFAULT_ENV = {
    "PATH": f"{_SWITCH}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "OPAM_SWITCH_PREFIX": _SWITCH,
    "CAML_LD_LIBRARY_PATH": f"{_SWITCH}/lib/stublibs:{_SWITCH}/lib/ocaml/stublibs:{_SWITCH}/lib/ocaml",
    "OCAML_TOPLEVEL_PATH": f"{_SWITCH}/lib/toplevel",
    "HOME": "/home/opam",
    "LANG": "C.UTF-8",
}

# Debian's names of architectures that OCI calls otherwise.
_OCI_ARCHITECTURES = {"i386": "386", "armhf": "arm", "armel": "arm", "ppc64el": "ppc64le", "mips64el": "mips64le"}


class PackagesFailedError(Exception):
    """Some packages of an image could not be built; the message tells all about each."""


@dataclass(frozen=True)
class OciPackageImageFieldSet(PackageFieldSet):
    required_fields = (OciImagePackagesField, OciImageBaseField)

    packages: OciImagePackagesField
    base: OciImageBaseField
    entrypoint: OciImageEntrypointField
    cmd: OciImageCmdField
    env: OciImageEnvField
    user: OciImageUserField
    workdir: OciImageWorkdirField
    labels: OciImageLabelsField
    annotations: OciImageAnnotationsField
    skip_push: OciImageSkipPushField
    output_path: OutputPathField


def image_config(field_set: OciPackageImageFieldSet) -> dict[str, Any]:
    """The `config` of an OCI image; keys without a value are left out."""
    own = dict(field_set.env.value or {})
    env = {name: own.pop(name, value) for name, value in DEFAULT_ENV.items()}
    env.update(sorted(own.items()))
    config = {
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Entrypoint": list(field_set.entrypoint.value),
        "Cmd": list(field_set.cmd.value),
        "User": field_set.user.value,
        "WorkingDir": field_set.workdir.value,
        "Labels": dict(field_set.labels.value or {}),
    }
    return {key: value for key, value in config.items() if value}


def check_base(image: Address, given: Address, base: Address, resolve: str) -> None:
    """Raise InvalidFieldException if an image names a base that its packages were not built in."""
    if given != base:
        raise InvalidFieldException(
            f"The `{OciImageBaseField.alias}` field in target {image} is {given}, but its packages are of the resolve "
            f"`{resolve}`, which `[opam].resolves_to_base` builds in {base}. Packages run only on the base that they "
            "were built in: leave the field out, or take packages of a resolve with that base."
        )


def check_outcomes(image: Address, outcomes: Iterable[PackageOutcome]) -> None:
    """Raise PackagesFailedError unless every package has its layer."""
    failed = sorted((o for o in outcomes if o.failed is not None), key=lambda o: o.package)
    blocked = sorted((o for o in outcomes if o.blocked_by), key=lambda o: o.package)
    if not failed and not blocked:
        return
    parts = [f"The image {image} was not written: {pluralize(len(failed), 'package')} failed."]
    parts.extend(f"{outcome.package} failed: {outcome.failed}" for outcome in failed)
    if blocked:
        listed = "".join(f"\n  * {o.package} (because of {', '.join(o.blocked_by)})" for o in blocked)
        parts.append(f"Not built:{listed}")
    raise PackagesFailedError("\n\n".join(parts))


@rule(desc="Package opam packages as an OCI image", level=LogLevel.DEBUG)
async def package_image(field_set: OciPackageImageFieldSet) -> BuiltPackage:
    image = field_set.address
    if field_set.skip_push.value and (await executing_goals()).is_running("publish"):
        # `publish` asks for packages before it asks whether they are wanted.
        return BuiltPackage(EMPTY_DIGEST, ())
    addresses = await addresses_of(field_set.packages.to_unparsed_address_inputs())
    selection = packages_of_one_resolve(image, await targets_of(addresses))
    plan: BuildPlan = await build_plan(BuildPlanRequest(selection.resolve))
    if field_set.base.value is not None:
        given = await parse_address(
            AddressInput.parse(
                field_set.base.value,
                relative_to=image.spec_path,
                description_of_origin=f"the `{OciImageBaseField.alias}` field of {image}",
            )
        )
        check_base(image, given, plan.rootfs.address, selection.resolve)

    names = plan.lock.image_closure(selection.names)
    packages = [plan.lock.packages[name] for name in names]
    outcomes: tuple[PackageOutcome, ...] = await concurrently(
        package_layer(PackageLayerRequest(selection.resolve, name)) for name in names
    )
    check_outcomes(image, outcomes)
    ground: Foundation = await foundation(FoundationRequest(plan.debian_lock))
    below = (*ground.layers, *(outcome.layers[name] for name, outcome in zip(names, outcomes)))

    tool: SandboxTool = await sandbox_tool()
    state_values = {
        "store": "store",
        "layers": layer_paths(below),
        "packages": [package_json(package) for package in packages],
        "roots": [plan.lock.packages[name].full_name for name in selection.names],
    }
    state_description = f"Make the state layer of {image}"
    state_result = await run_process(
        tool_process(
            tool,
            Call(
                "state",
                state_description,
                state_values,
                below,
                ("layer.json", "build.log", "timings.json"),
            ),
            await create_digest(CreateDigest([request_file(state_values)])),
        )
    )
    if state_result.exit_code != 0:
        log = await build_log(state_result)
        raise LayerError(f"{state_description} failed.\n{failure_text(state_result, log, whole_log=False)}")
    layers = (*below, await layer_of(state_result, state_description))

    image_values = {
        "layers": layer_paths(layers),
        "architecture": _OCI_ARCHITECTURES.get(plan.rootfs.architecture, plan.rootfs.architecture),
        "os": "linux",
        "config": image_config(field_set),
        "annotations": dict(field_set.annotations.value or {}),
        "ref_name": "latest",
        "created": "1970-01-01T00:00:01Z",
    }
    image_description = f"Write the manifest of {image}"
    result = await run_process(
        tool_process(
            tool,
            Call(
                "image",
                image_description,
                image_values,
                layers,
                ("index.json", "oci-layout", "image.json"),
            ),
            await create_digest(CreateDigest([request_file(image_values)])),
        )
    )
    if result.exit_code != 0:
        raise LayerError(f"{image_description} failed.\n{failure_text(result, '', whole_log=False)}")
    summary = await digest_contents(await digest_subset(DigestSubset(result.output_digest, PathGlobs(["image.json"]))))
    metadata = await digest_subset(
        DigestSubset(result.output_digest, PathGlobs(["index.json", "oci-layout", "blobs/**"]))
    )
    blobs = await concurrently(digest_subset(DigestSubset(layer.digest, PathGlobs(["blobs/**"]))) for layer in layers)
    layout = await merge_digests(MergeDigests([metadata, *blobs]))
    check_layout(await digest_entries(layout), layers, str(image))

    output_path = field_set.output_path.value_or_default(file_ending=None)
    digest = await add_prefix(AddPrefix(layout, output_path))
    return BuiltPackage(
        digest, (BuiltPackageArtifact(output_path, tuple(log_lines(json.loads(summary[0].content), layers))),)
    )


def check_layout(entries: Iterable[object], layers: Iterable[Layer], image: str) -> None:
    """Raise LayerError unless every blob is there and is what its name says."""
    blobs = {e.path: e for e in entries if isinstance(e, FileEntry) and e.path.startswith("blobs/")}
    check_blobs(blobs.values(), image)
    for layer in layers:
        if blob_path(layer.blob) not in blobs:
            raise LayerError(f"{image}: the blob {layer.blob} of the layer {layer.full_name} is missing.")


def log_lines(summary: Mapping[str, Any], layers: Iterable[Layer]) -> Iterable[str]:
    """What `package` prints below the path."""
    layers = tuple(layers)
    yield f"manifest {summary['manifest_digest']}"
    yield f"{pluralize(len(layers), 'layer')}, {sum(layer.size for layer in layers):,} bytes compressed"


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(PackageFieldSet, OciPackageImageFieldSet)]
