"""What the SBOM of an image is made from."""

from __future__ import annotations

from typing import Iterable

from opam_oci.images.base_images import base_components
from opam_oci.images.manifest import SbomContent
from opam_oci.images.parts import ImageParts
from opam_oci.images.sbom_documents import DebFacts, OpamFacts, components_of
from opam_oci.layers.base_image import BaseImageLayers
from opam_oci.layers.opam_text import OpamTextError, strings_of_field
from opam_oci.pants_engine.digests import read_files
from opam_oci.resolves.lockfile import Deb, DebianLock, LockedPackage
from opam_oci.sandbox.foreign_json import parse_object
from opam_oci.sandbox.layer import Layer, LayerError


async def _debian_packages(layers: Iterable[Layer]) -> set[str]:
    """The names of the Debian packages that layers' descriptions speak of. Raises LayerError."""
    found: set[str] = set()
    for layer in layers:
        where = f"the layer.json of {layer.kind} {layer.full_name}".rstrip()
        dpkg = parse_object((await read_files(layer.digest, "layer.json"))["layer.json"], where, LayerError).get("dpkg")
        status = dpkg.get("status", {}) if isinstance(dpkg, dict) else None
        if not isinstance(status, dict):
            raise LayerError(f"{where}: its `dpkg` is {dpkg!r:.80}.")
        found.update(key.partition(":")[0] for key in status)
    return found


def _opam(package: LockedPackage) -> OpamFacts:
    try:
        licenses = strings_of_field(package.opam, "license")
        homepage = strings_of_field(package.opam, "homepage")
    except OpamTextError as error:
        raise LayerError(f"{package.full_name}: its opam file cannot be read: {error}.") from None
    return OpamFacts(
        name=package.name,
        version=package.version,
        licenses=licenses,
        homepage=homepage[0] if homepage else "",
        depends=tuple(package.depends),
        sources=tuple(
            (source.urls[0], source.sha256) for source in sorted(package.sources, key=lambda source: source.name)
        ),
    )


def _deb(deb: Deb) -> DebFacts:
    return DebFacts(deb.name, deb.version, deb.architecture, deb.sha256)


async def sbom_content(
    parts: ImageParts, base: DebianLock | BaseImageLayers, layers: Iterable[Layer], *, attach: bool, runtime: bool
) -> SbomContent:
    """`base`: what the image stands on; `layers`: the image's. Raises LayerError."""
    debs = [] if isinstance(base, BaseImageLayers) else list(base.debs.values())
    if runtime:
        # A runtime image holds single files of the packages' .debs: its layer says of which.
        known = await _debian_packages(layers)
        debs += [deb for deb in (*parts.debs, *parts.plan.debian_lock.debs.values()) if deb.name in known]
    else:
        debs += parts.debs
    packages = [_opam(union.package) for union in parts.packages]
    return SbomContent(
        name=parts.address.target_name,
        attach=attach,
        components=(
            *base_components(base),
            *components_of(packages, [_deb(deb) for deb in debs], parts.plan.rootfs.suite),
        ),
    )
