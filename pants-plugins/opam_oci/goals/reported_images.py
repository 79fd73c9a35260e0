"""The images of targets, as reports know them: those of `oci_package_image`, and all of a layout or an index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Iterable, Mapping

from pants.engine.fs import Digest
from pants.engine.target import Target

from opam_oci.field_sets import OciPackageImageFieldSet
from opam_oci.goals.package_image_index import OciImageIndexFieldSet, check_platforms, parts_of_index
from opam_oci.goals.package_image_layout import OciImageLayoutFieldSet, image_requests, images_of_layout
from opam_oci.image_reports.records import ImageRecord, read_image
from opam_oci.images.image import ImageRequest, OciImage, make_image
from opam_oci.images.oci_layout import blob_json, check_descriptor, image_of_index
from opam_oci.pants_engine.rules import concurrently, implicitly


class NoImagesError(Exception):
    """No target on the command line is of images."""


@dataclass(frozen=True)
class _Named:
    """An image of a target; `within`: the layout or index that it was made for, "" for none."""

    record: ImageRecord
    within: str = ""


async def _record_of(name: str, layout: Digest, descriptor: Mapping[str, Any]) -> ImageRecord:
    """The image of a descriptor in a layout, whose manifest and configuration are read. Raises LayoutError, ImageRecordError."""
    manifest = await blob_json(name, layout, descriptor)
    where = f"{name}: the manifest {descriptor['digest']}"
    config = await blob_json(name, layout, check_descriptor(manifest.get("config"), f"{where}: `config`"))
    return read_image(name, descriptor["digest"], manifest, config)


async def record_of_image(image: OciImage) -> ImageRecord:
    """An image that was made here."""
    name = str(image.address)
    return await _record_of(name, image.layout, image_of_index(name, image.index).descriptor)


def request_of_image(field_set: OciPackageImageFieldSet) -> ImageRequest:
    """Asks for an image by itself, as `package` makes it."""
    return ImageRequest(field_set, for_docker=field_set.format.value == "docker-archive")


async def _image_of_target(field_set: OciPackageImageFieldSet) -> ImageRecord:
    """An image by itself. Raises what cannot be built."""
    return await record_of_image(await make_image(request_of_image(field_set), **implicitly()))


async def _images_of_layout(field_set: OciImageLayoutFieldSet) -> list[_Named]:
    field_sets = await images_of_layout(field_set)
    requests = image_requests(field_sets, field_set.format.value)
    images = await concurrently(make_image(one, **implicitly()) for one in requests)
    return [_Named(await record_of_image(image), str(field_set.address)) for image in images]


async def _images_of_index(field_set: OciImageIndexFieldSet) -> list[_Named]:
    index = str(field_set.address)
    parts = await parts_of_index(field_set)
    check_platforms(index, parts)
    return [_Named(await _record_of(part.name, part.digest, part.image), index) for part in parts]


async def images_of_targets(targets: Iterable[Target], goal: str) -> list[ImageRecord]:
    """All images of the targets, each once. Raises NoImagesError where there are none, and what cannot be built."""
    found: list[_Named] = []
    for target in sorted(targets, key=lambda target: target.address):
        if OciPackageImageFieldSet.is_applicable(target):
            found.append(_Named(await _image_of_target(OciPackageImageFieldSet.create(target))))
        elif OciImageLayoutFieldSet.is_applicable(target):
            found += await _images_of_layout(OciImageLayoutFieldSet.create(target))
        elif OciImageIndexFieldSet.is_applicable(target):
            found += await _images_of_index(OciImageIndexFieldSet.create(target))
    if not found:
        raise NoImagesError(
            f"`{goal}` is for `oci_package_image`, `oci_image_layout` and `oci_image_index` targets, such as `images:hello`; the "
            "command line names none."
        )
    return _told_apart(found)


def _told_apart(found: Iterable[_Named]) -> list[ImageRecord]:
    """Each image once, under a name of its own.

    An image may be another one in a layout, which groups its packages otherwise, or in an index, where it is no docker-archive.
    Then the one of its own target has the name alone."""
    images: dict[str, dict[str, _Named]] = {}
    for one in sorted(found, key=lambda one: one.within):
        images.setdefault(one.record.name, {}).setdefault(one.record.manifest, one)
    return [
        replace(one.record, name=f"{name} in {one.within}") if one.within and len(manifests) > 1 else one.record
        for name, manifests in images.items()
        for one in manifests.values()
    ]
