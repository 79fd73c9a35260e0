"""What documents about an image say of a base that others made: its name and its digest. What is in it, they may say."""

from __future__ import annotations

from opam_oci.fields.base_image import LAYOUT
from opam_oci.images.package_urls import image_purl
from opam_oci.images.provenance_document import Dependency
from opam_oci.images.sbom_documents import Component, base_component
from opam_oci.layers.base_image import BaseImageLayers
from opam_oci.resolves.lockfile import DebianLock


def base_components(base: DebianLock | BaseImageLayers) -> tuple[Component, ...]:
    """The base as a part of an image in SBOMs; none for a Debian base, whose packages are the parts, and for scratch."""
    if not isinstance(base, BaseImageLayers) or not base.manifest:
        return ()
    name, purl = _called(base)
    return (base_component(name, purl, base.manifest),)


def base_dependencies(base: DebianLock | BaseImageLayers) -> tuple[Dependency, ...]:
    """The base as what an image was made of; none for a Debian base and for scratch."""
    if not isinstance(base, BaseImageLayers) or not base.manifest:
        return ()
    algorithm, _, digest = base.manifest.partition(":")
    return (Dependency("base image", algorithm, digest, _called(base)[1]),)


def _called(base: BaseImageLayers) -> tuple[str, str]:
    """Its name and its package URL. One that is of no registry is called as its target."""
    repository = "" if base.image.image.startswith(LAYOUT) else base.image.image
    name = repository.rpartition("/")[2] or base.image.address.target_name
    return name, image_purl(name, base.manifest, repository)
