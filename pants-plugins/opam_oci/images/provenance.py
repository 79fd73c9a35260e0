"""What the statement about an image's making is made from."""

from __future__ import annotations

import dataclasses
import posixpath
from typing import Any, Iterable, Mapping

from pants.engine.fs import PathGlobs
from pants.engine.target import Field

from opam_oci.downloads.credentials import place
from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.fields.image import OciImageBaseField, OciImagePackagesField
from opam_oci.images.base_images import base_dependencies
from opam_oci.images.parts import ImageParts, ImagePartsRequest, build_image_parts
from opam_oci.images.plugin_files import find_plugin_files
from opam_oci.images.provenance_document import (
    Dependency,
    LockedDebs,
    ProvenanceContent,
    deb_dependencies,
    lockfile_dependency,
    package_dependencies,
    tree_dependency,
)
from opam_oci.images.sbom_documents import readable
from opam_oci.images.stack import base_below
from opam_oci.layers.base_image import BaseImageLayers
from opam_oci.pants_engine.calls import contents_of_globs
from opam_oci.pants_engine.digests import file_entries
from opam_oci.pants_engine.rules import concurrently, implicitly
from opam_oci.projects.sources import ProjectTreeRequest, find_project_tree
from opam_oci.resolves.lockfile import DebianLock, OpamLock
from opam_oci.resolves.locks import OpamLockRequest, read_opam_lockfile
from opam_oci.resolves.opam_repositories import Archive, GitCommit, parse_location, read_directory
from opam_oci.subsystems.opam import OpamSubsystem

# Fields that say what becomes of an image, and change none.
_NOT_OF_THE_IMAGE = ("address", "format", "output_path", "provenance", "sbom", "skip_push")


def _json_value(value: Any) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable(str(key)): _json_value(item) for key, item in sorted(value.items())}
    if isinstance(value, Iterable):
        return [_json_value(item) for item in value]
    return value


def parameters_of(
    field_set: OciPackageImageFieldSet, parts: ImageParts, companions: Iterable[object], opam: OpamSubsystem
) -> dict[str, Any]:
    """What BUILD files and options say of an image: fields without a value are left out. `companions`: addresses of the images
    of a layout that it shares layers with."""
    fields: dict[str, Any] = {}
    for one in dataclasses.fields(field_set):
        field = getattr(field_set, one.name)
        if one.name not in _NOT_OF_THE_IMAGE and isinstance(field, Field) and field.value is not None:
            fields[field.alias] = _json_value(field.value)
    # Addresses as they are, wherever the BUILD file is.
    fields[OciImagePackagesField.alias] = sorted(str(one) for chosen in parts.selections for one in chosen.addresses)
    fields[OciImageBaseField.alias] = str(parts.plan.rootfs.address)
    found: dict[str, Any] = {
        "target": str(field_set.address),
        "fields": fields,
        "options": {
            f"[{opam.options_scope}].{name}": _json_value(getattr(opam, name))
            for name in ("depext_files_left_out", "overlapping_files")
        },
    }
    layout = sorted(str(one) for one in companions)
    return {**found, "layout": layout} if layout else found


async def _repositories(locks: Iterable[OpamLock], opam: OpamSubsystem) -> list[Dependency]:
    """What the lockfiles were solved against, as they themselves say; none of lockfiles that do not."""
    if all(lock.repositories is None for lock in locks):
        return []
    found = []
    # They are those of the lockfiles: `check_opam_lock_fresh` has compared them.
    for name, text in sorted(opam.ordered_repositories().items()):
        location, title = parse_location(name, text), f"repository {name}"
        if isinstance(location, GitCommit):
            uri = f"git+{place(location.url).url}@{location.commit}"
            found.append(Dependency(title, "gitCommit", location.commit, uri))
        elif isinstance(location, Archive):
            found.append(Dependency(title, "sha256", location.sha256, place(location.url).url))
        else:
            repository = await read_directory(name, location, must_exist=False)
            entries = (await file_entries(repository.digest)).items()
            files = [(posixpath.relpath(path, repository.path), one.file_digest.fingerprint) for path, one in entries]
            found.append(tree_dependency(title, files))
    return found


async def _packages(parts: ImageParts) -> list[Dependency]:
    """Of all packages of the image; those of this repository have their project's files in place of an archive."""
    found = []
    for union in parts.packages:
        package = union.package
        found += package_dependencies(package)
        if package.local:
            tree = await find_project_tree(ProjectTreeRequest(union.resolves[0], package.name), **implicitly())
            files = [(entry.path, entry.file_digest.fingerprint) for entry in tree.entries]
            found.append(tree_dependency(f"opam {package.name} project", files))
    return found


def _debs(parts: ImageParts, locks: Mapping[str, OpamLock], bases: Iterable[DebianLock]) -> list[Dependency]:
    """Of the bases and of all packages: also those that a runtime image has no file of, as its packages were built with them."""
    locked = [LockedDebs(base.path, base.suite, tuple(base.debs.values())) for base in bases]
    for union in parts.packages:
        lock = locks[union.resolves[0]]
        locked.append(LockedDebs(lock.path, parts.plan.debian_lock.suite, lock.debs_of(union.package.name)))
    return deb_dependencies(locked)


async def provenance_content(
    field_set: OciPackageImageFieldSet,
    parts: ImageParts,
    base: DebianLock | BaseImageLayers,
    companions: Iterable[object],
    opam: OpamSubsystem,
    *,
    attach: bool,
) -> ProvenanceContent:
    """`base`: what the image stands on; `companions`: see `parameters_of`."""
    resolves = [selection.resolve for selection in parts.selections]
    read = await concurrently(read_opam_lockfile(OpamLockRequest(resolve), **implicitly()) for resolve in resolves)
    locks = dict(zip(resolves, read))
    bases = {lock.path: lock for lock in (parts.plan.debian_lock, base) if isinstance(lock, DebianLock)}
    paths = sorted({*bases, *(lock.path for lock in read)})
    contents = await contents_of_globs(PathGlobs(paths))
    plugin = await find_plugin_files(**implicitly())
    return ProvenanceContent(
        name=field_set.address.target_name,
        attach=attach,
        parameters=parameters_of(field_set, parts, companions, opam),
        dependencies=(
            *(lockfile_dependency(file.path, file.content) for file in sorted(contents, key=lambda file: file.path)),
            *await _repositories(read, opam),
            tree_dependency("plugin", plugin.files),
            *base_dependencies(base),
            *await _packages(parts),
            *_debs(parts, locks, bases.values()),
        ),
    )


async def provenance_of_image(
    field_set: OciPackageImageFieldSet, companions: Iterable[object], opam: OpamSubsystem
) -> ProvenanceContent:
    """What this checkout makes an image of, whatever its field `provenance` says. Its packages are built. `companions`: see
    `parameters_of`. Raises what cannot be built."""
    parts = await build_image_parts(ImagePartsRequest(field_set), **implicitly())
    base = await base_below(field_set, parts)
    return await provenance_content(field_set, parts, base, companions, opam, attach=False)
