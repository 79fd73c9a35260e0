"""`package` for `oci_package_image`: an OCI image out of layers, as a layout or as an archive."""

from __future__ import annotations

import json
import re
from typing import Any, Iterable, Mapping

from pants.core.goals.package import (
    BuiltPackage,
    BuiltPackageArtifact,
    PackageFieldSet,
)
from pants.engine.addresses import Address, Addresses, AddressInput
from pants.engine.fs import (
    EMPTY_DIGEST,
    AddPrefix,
    CreateDigest,
    Digest,
    DigestSubset,
    FileEntry,
    MergeDigests,
    PathGlobs,
)
from pants.engine.target import InvalidFieldException, Target
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from opam_oci.engine import (
    add_prefix,
    base_layer,
    collect_rules,
    concurrently,
    create_digest,
    debian_lock,
    debian_rootfs,
    digest_contents,
    digest_entries,
    digest_subset,
    executing_goals,
    image_parts,
    merge_digests,
    oci_image,
    packed_layer,
    parse_address,
    rule,
    run_process,
    runtime_layer,
    sandbox_tool,
    targets_of,
)
from opam_oci.grouping import Groups, Unit, group
from opam_oci.image_layers import make_state_layer
from opam_oci.image_products import (
    ImageParts,
    ImagePartsRequest,
    ImageRequest,
    OciImage,
    OciPackageImageFieldSet,
    PackedLayerRequest,
    RuntimeLayerRequest,
)
from opam_oci.layers import LayerError, blob_path, check_blobs, failure_text
from opam_oci.lockfile import DebianLock
from opam_oci.locks import address_text
from opam_oci.products import (
    BaseLayerRequest,
    DebianLockRequest,
    DebianRootfs,
    DebianRootfsRequest,
    Layer,
    SandboxTool,
)
from opam_oci.sandbox import Call, layer_paths, request_file, tool_process
from opam_oci.target_types import (
    OciImageCompressionLevelField,
    OciImageMaxLayersField,
    OciImageRuntimeBaseField,
    OciImageSharedWithField,
    OciPackageImageTarget,
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

CREATED = "1970-01-01T00:00:01Z"

# How package layers are made: they need not be compressed again for this.
_AS_MADE = ("gzip", 5)
_LEVELS = {"gzip": (1, 9), "zstd": (1, 19)}

# The base, opam's root and the state: no packages.
_OTHER_LAYERS = 3

SBOM_GLOBS = PathGlobs(["sbom.*.json"])


class TooManyLayersError(Exception):
    """An image with `layers="per_package"` that has more layers than it may."""


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
        "ExposedPorts": {port if "/" in port else f"{port}/tcp": {} for port in field_set.exposed_ports.value},
        "Volumes": {path: {} for path in field_set.volumes.value},
        "StopSignal": field_set.stop_signal.value,
        "Labels": dict(field_set.labels.value or {}),
    }
    return {key: value for key, value in config.items() if value}


def packing_of(field_set: OciPackageImageFieldSet, *, plain: bool) -> tuple[str, int]:
    """The compression and its level (0: default). Raises InvalidFieldException for a level that there is not."""
    if plain:
        return ("gzip", 0)
    compression, level = field_set.compression.value, field_set.compression_level.value
    lowest, highest = _LEVELS.get(compression, (0, 0))
    if level is not None and not lowest <= level <= highest:
        takes = f"takes {lowest} to {highest}" if highest else "has no levels"
        raise InvalidFieldException(
            f"The `{OciImageCompressionLevelField.alias}` field in target {field_set.address} is {level}, but {compression} "
            f"{takes}."
        )
    return (compression, level or 0)


# The order and grouping of packages.


def units_of(parts: ImageParts) -> tuple[Unit, ...]:
    keys = {union.package.name: layer.diff_id for union, layer in zip(parts.packages, parts.layers)}
    return tuple(
        Unit(
            layer.diff_id,
            union.package.name,
            tuple(keys[name] for name in union.package.depends if name in keys),
        )
        for union, layer in zip(parts.packages, parts.layers)
    )


async def groups_of(request: ImageRequest, parts: ImageParts) -> tuple[tuple[Layer, ...], ...]:
    """The image's packages as groups that are to be a layer each, bottom first."""
    field_set = request.field_set
    alone = tuple((layer,) for layer in parts.layers)
    count = len(alone) + _OTHER_LAYERS
    if field_set.layers.value == "flat":
        return alone
    if field_set.layers.value == "per_package":
        if count > field_set.max_layers.value:
            raise TooManyLayersError(
                f"The image {field_set.address} has {count} layers, one for each package, but its "
                f"`{OciImageMaxLayersField.alias}` is {field_set.max_layers.value}. Set its `{field_set.layers.alias}` to "
                f'"grouped" to join packages, or raise `{OciImageMaxLayersField.alias}`.'
            )
        return alone
    companions = {one.address: one for one in (*request.companions, *await shared_with(field_set))}
    companions.pop(field_set.address, None)
    others: tuple[ImageParts, ...] = await concurrently(
        image_parts(ImagePartsRequest(one)) for one in companions.values() if one.layers.value == "grouped"
    )
    by_address = {one.address: one for one in (parts, *others)}
    field_sets = {field_set.address: field_set, **companions}
    groups: Groups = group(
        {str(address): units_of(one) for address, one in by_address.items()},
        {str(address): field_sets[address].max_layers.value - _OTHER_LAYERS for address in by_address},
    )[str(field_set.address)]
    by_key = {layer.diff_id: layer for layer in parts.layers}
    return tuple(tuple(by_key[key] for key in one) for one in groups)


async def shared_with(field_set: OciPackageImageFieldSet) -> tuple[OciPackageImageFieldSet, ...]:
    """The images that the field `shared_with` names. Raises InvalidFieldException for other targets."""
    origin = f"the `{OciImageSharedWithField.alias}` field of {field_set.address}"
    addresses: tuple[Address, ...] = await concurrently(
        parse_address(AddressInput.parse(text, relative_to=field_set.address.spec_path, description_of_origin=origin))
        for text in field_set.shared_with.value
    )
    return image_field_sets(origin, await targets_of(Addresses(addresses)))


def image_field_sets(origin: str, targets: Iterable[Target]) -> tuple[OciPackageImageFieldSet, ...]:
    """Field sets of images, by address. Raises InvalidFieldException for targets that are none."""
    field_sets = []
    for target in targets:
        if not OciPackageImageFieldSet.is_applicable(target):
            raise InvalidFieldException(
                f"{origin[:1].upper()}{origin[1:]} names {target.address}, which is a `{target.alias}`; it takes "
                f"`{OciPackageImageTarget.alias}` targets."
            )
        field_sets.append(OciPackageImageFieldSet.create(target))
    return tuple(sorted(field_sets, key=lambda one: one.address))


# Images.


def package_history(parts: ImageParts, layers: Iterable[Layer]) -> dict[str, str]:
    """What the history says of a layer that is made of these packages' layers."""
    unions = {union.package.name: union for union in parts.packages}
    found = [unions[layer.name] for layer in layers]
    names = " ".join(union.package.full_name for union in found)
    sources = [
        f"{union.package.name} {source.name or 'source'} sha256:{source.sha256}"
        for union in found
        for source in union.package.sources
    ]
    resolves = sorted({resolve for union in found for resolve in union.resolves})
    return {
        "created_by": f"opam install {names}",
        "comment": "; ".join([f"opam resolve {', '.join(resolves)}", *sources]),
        "title": names,
    }


def base_history(lock: DebianLock) -> dict[str, str]:
    return {
        "created_by": f"debian_rootfs {lock.resolve}",
        "comment": f"Debian {lock.suite} {lock.architecture}, {pluralize(len(lock.debs), 'package')} of {lock.path}",
    }


_OPAM_ROOT_HISTORY = {"created_by": "opam init", "comment": "the user opam and an empty switch"}
_STATE_HISTORY = {"created_by": "state of opam, dpkg and ld.so for the layers below"}


def sbom_json(parts: ImageParts, base: DebianLock, *, attach: bool, runtime: bool) -> dict[str, Any]:
    # A runtime image holds single files of the packages' .debs: its layer says of which.
    built_in = (*parts.debs, *parts.plan.debian_lock.debs.values()) if runtime else parts.debs
    debs = [*((deb, False) for deb in base.debs.values()), *((deb, runtime) for deb in built_in)]
    return {
        "name": parts.address.target_name,
        "attach": attach,
        "suite": base.suite,
        "packages": [
            {
                "name": union.package.name,
                "version": union.package.version,
                "opam": union.package.opam,
                "depends": sorted(union.package.depends),
                "sources": [
                    {"url": source.urls[0], "sha256": source.sha256}
                    for source in sorted(union.package.sources, key=lambda source: source.name)
                ],
            }
            for union in parts.packages
        ],
        "debs": [
            {
                "name": deb.name,
                "version": deb.version,
                "architecture": deb.architecture,
                "sha256": deb.sha256,
                "optional": optional,
            }
            for deb, optional in debs
        ],
    }


async def slim_base_lock(field_set: OciPackageImageFieldSet, parts: ImageParts) -> DebianLock:
    """The lock of a runtime image's base. Raises InvalidFieldException for a base that does not fit."""
    field = f"The `{OciImageRuntimeBaseField.alias}` field in target {field_set.address}"
    if field_set.runtime_base.value is None:
        raise InvalidFieldException(
            f"{field} is not set, but `{field_set.runtime.alias}` is: name a `debian_rootfs` for the image to stand on."
        )
    address = await parse_address(
        AddressInput.parse(
            field_set.runtime_base.value,
            relative_to=field_set.address.spec_path,
            description_of_origin=field[:1].lower() + field[1:],
        )
    )
    rootfs: DebianRootfs = await debian_rootfs(DebianRootfsRequest(address_text(address), field))
    full = parts.plan.rootfs
    if (rootfs.suite, rootfs.architecture) != (full.suite, full.architecture):
        raise InvalidFieldException(
            f"{field} is {address} ({rootfs.suite}, {rootfs.architecture}), but the packages are built in {full.address} "
            f"({full.suite}, {full.architecture}): programs need the libraries of the suite that they were linked in."
        )
    lock: DebianLock = await debian_lock(DebianLockRequest(rootfs))
    return lock


@rule(desc="Make an OCI image of opam packages", level=LogLevel.DEBUG)
async def make_image(request: ImageRequest) -> OciImage:
    field_set = request.field_set
    image = field_set.address
    compression, level = packing_of(field_set, plain=request.plain)
    parts: ImageParts = await image_parts(ImagePartsRequest(field_set))
    base = parts.ground.base
    base_lock = parts.plan.debian_lock
    # What becomes a layer of the image, with its history.
    stack: list[tuple[tuple[Layer, ...], dict[str, str]]]
    if field_set.runtime.value:
        slim_lock = await slim_base_lock(field_set, parts)
        slim: Layer = await base_layer(BaseLayerRequest(slim_lock))
        layer: Layer = await runtime_layer(RuntimeLayerRequest(parts, slim, field_set.runtime_keep.value))
        names = " ".join(sorted({n for selection in parts.selections for n in selection.names}))
        stack = [
            ((slim,), base_history(slim_lock)),
            ((layer,), {"created_by": f"runtime files of {names}", "title": f"{names} (runtime)"}),
        ]
        base_lock = slim_lock
    else:
        groups = await groups_of(request, parts)
        below = (*parts.ground.layers, *(layer for one in groups for layer in one))
        state: Layer = await make_state_layer(parts, below)
        stack = [
            ((base,), base_history(base_lock)),
            ((parts.ground.opam_root,), _OPAM_ROOT_HISTORY),
            *((one, package_history(parts, one)) for one in groups),
            ((state,), _STATE_HISTORY),
        ]
    if field_set.layers.value == "flat":
        everything = tuple(layer for layers, _ in stack for layer in layers)
        created_by = "; ".join(history["created_by"] for _, history in stack)
        comment = "; ".join(history["comment"] for _, history in stack if history.get("comment"))
        flat: Layer = await packed_layer(PackedLayerRequest(base, everything, compression, level, whole=True))
        layers: tuple[Layer, ...] = (flat,)
        history = [{"created_by": created_by, "comment": comment}]
    else:
        as_made = (compression, level or _AS_MADE[1]) == _AS_MADE
        wanted = [
            None if as_made and len(one) == 1 else PackedLayerRequest(base, one, compression, level) for one, _ in stack
        ]
        made = iter(await concurrently(packed_layer(one) for one in wanted if one is not None))
        layers = tuple(one[0] if want is None else next(made) for want, (one, _) in zip(wanted, stack))
        history = [entry for _, entry in stack]

    values: dict[str, Any] = {
        "layers": layer_paths(layers),
        "history": history,
        "architecture": _OCI_ARCHITECTURES.get(parts.plan.rootfs.architecture, parts.plan.rootfs.architecture),
        "os": "linux",
        "config": image_config(field_set),
        "annotations": dict(field_set.annotations.value or {}),
        "ref_name": "latest",
        "created": CREATED,
    }
    if field_set.sbom.value != "none" and not request.plain:
        values["sbom"] = sbom_json(
            parts, base_lock, attach=field_set.sbom.value == "attached", runtime=field_set.runtime.value
        )
    tool: SandboxTool = await sandbox_tool()
    description = f"Write the manifest of {image}"
    outputs = ("index.json", "oci-layout", "image.json", "sbom.spdx.json", "sbom.cdx.json")
    result = await run_process(
        tool_process(
            tool,
            Call("image", description, values, layers, outputs),
            await create_digest(CreateDigest([request_file(values)])),
        )
    )
    if result.exit_code != 0:
        raise LayerError(f"{description} failed.\n{failure_text(result, '', whole_log=False)}")
    metadata = await digest_subset(
        DigestSubset(result.output_digest, PathGlobs(["index.json", "oci-layout", "blobs/**"]))
    )
    blobs = await concurrently(digest_subset(DigestSubset(layer.digest, PathGlobs(["blobs/**"]))) for layer in layers)
    layout = await merge_digests(MergeDigests([metadata, *blobs]))
    check_layout(await digest_entries(layout), layers, str(image))
    contents = await digest_contents(
        await digest_subset(DigestSubset(result.output_digest, PathGlobs(["image.json", "index.json"])))
    )
    texts = {file.path: file.content for file in contents}
    summary = json.loads(texts["image.json"])
    return OciImage(
        address=image,
        layout=layout,
        index=texts["index.json"],
        manifest=summary["manifest_digest"],
        config=summary["config_digest"],
        layers=layers,
        sbom=await digest_subset(DigestSubset(result.output_digest, SBOM_GLOBS)),
    )


def check_layout(entries: Iterable[object], layers: Iterable[Layer], image: str) -> None:
    """Raise LayerError unless every blob is there and is what its name says."""
    blobs = {e.path: e for e in entries if isinstance(e, FileEntry) and e.path.startswith("blobs/")}
    check_blobs(blobs.values(), image)
    for layer in layers:
        if blob_path(layer.blob) not in blobs:
            raise LayerError(f"{image}: the blob {layer.blob} of the layer {layer.full_name} is missing.")


# What `package` writes.


def repository_name(address: Address) -> str:
    """The name that an archive for docker gives to an image: the target's, in the letters that docker takes."""
    return re.sub(r"[^a-z0-9]+", "-", address.target_name.lower()).strip("-") or "image"


async def as_archive(kind: str, description: str, layout: Digest, images: Mapping[str, OciImage]) -> Digest:
    """A layout as one file, `image.tar`. `images`: those of a docker-archive by their names and tags."""
    tool: SandboxTool = await sandbox_tool()
    layers: list[Layer] = []
    listed = []
    for tag, image in images.items() if kind == "docker-archive" else ():
        paths = [f"in/{len(layers) + number}" for number, _ in enumerate(image.layers)]
        layers.extend(image.layers)
        listed.append({"config": image.config, "tags": [tag], "layers": paths})
    values = {"format": kind, "layout": "layout", "images": listed}
    if kind == "docker-archive":
        layout = await digest_subset(
            DigestSubset(layout, PathGlobs([blob_path(image.config) for image in images.values()]))
        )
    inputs = await merge_digests(
        MergeDigests(
            [await create_digest(CreateDigest([request_file(values)])), await add_prefix(AddPrefix(layout, "layout"))]
        )
    )
    call = Call("archive", description, values, tuple(layers), ("image.tar",), ())
    result = await run_process(tool_process(tool, call, inputs))
    if result.exit_code != 0:
        raise LayerError(f"{description} failed.\n{failure_text(result, '', whole_log=False)}")
    archive: Digest = result.output_digest
    return archive


async def renamed(digest: Digest, path: str, suffixes: Mapping[str, str]) -> Digest:
    """The files of a digest that `suffixes` names, at `path` + their suffixes."""
    entries = await digest_entries(digest)
    files = [
        FileEntry(path + suffixes[entry.path], entry.file_digest)
        for entry in entries
        if isinstance(entry, FileEntry) and entry.path in suffixes
    ]
    result: Digest = await create_digest(CreateDigest(files))
    return result


@rule(desc="Package opam packages as an OCI image", level=LogLevel.DEBUG)
async def package_image(field_set: OciPackageImageFieldSet) -> BuiltPackage:
    if field_set.skip_push.value and (await executing_goals()).is_running("publish"):
        # `publish` asks for packages before it asks whether they are wanted.
        return BuiltPackage(EMPTY_DIGEST, ())
    kind = field_set.format.value
    image: OciImage = await oci_image(ImageRequest(field_set, plain=kind == "docker-archive"))
    path = field_set.output_path.value_or_default(file_ending=None if kind == "oci" else "tar")
    lines = tuple(log_lines(image))
    if kind == "oci":
        digest = await add_prefix(AddPrefix(image.layout, path))
    else:
        tag = f"{repository_name(field_set.address)}:latest"
        archive = await as_archive(kind, f"Write {field_set.address} as {kind}", image.layout, {tag: image})
        digest = await renamed(archive, path, {"image.tar": ""})
    stem = path[: -len(".tar")] if path.endswith(".tar") else path
    suffixes = {"sbom.spdx.json": ".spdx.json", "sbom.cdx.json": ".cdx.json"}
    sbom = await renamed(image.sbom, stem, suffixes)
    artifacts = [BuiltPackageArtifact(path, lines)]
    artifacts += [
        BuiltPackageArtifact(entry.path) for entry in await digest_entries(sbom) if isinstance(entry, FileEntry)
    ]
    return BuiltPackage(await merge_digests(MergeDigests([digest, sbom])), tuple(artifacts))


def log_lines(image: OciImage) -> Iterable[str]:
    """What `package` prints below the path."""
    yield f"manifest {image.manifest}"
    size = sum(layer.size for layer in image.layers)
    yield f"{pluralize(len(image.layers), 'layer')}, {size:,} bytes compressed"


def rules() -> list[object]:
    return [*collect_rules(), UnionRule(PackageFieldSet, OciPackageImageFieldSet)]
