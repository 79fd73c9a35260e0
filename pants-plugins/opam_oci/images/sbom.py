"""What the SBOM of an image is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pants.engine.fs import PathGlobs

from opam_oci.images.parts import ImageParts
from opam_oci.resolves.lockfile import DebianLock

if TYPE_CHECKING:
    from opam_sandbox.imaging.requests import Sbom


SBOM_GLOBS = PathGlobs(["sbom.*.json"])


def sbom_json(parts: ImageParts, base: DebianLock, *, attach: bool, runtime: bool) -> Sbom:
    """The part "sbom" of the request of the command `image`. `base`: the lock of the base that the image stands on."""
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
