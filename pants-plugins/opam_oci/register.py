"""What Pants loads when `opam_oci` is listed in `[GLOBAL].backend_packages`."""

from __future__ import annotations

from typing import Iterable

from pants.engine.target import Target

from opam_oci import fetch, generate_lockfiles, host, image, layers, locks, packages, repositories, sandbox, tailor
from opam_oci.target_types import TARGET_TYPES


def target_types() -> Iterable[type[Target]]:
    return TARGET_TYPES


def rules() -> Iterable[object]:
    return [
        *fetch.rules(),
        *generate_lockfiles.rules(),
        *host.rules(),
        *image.rules(),
        *layers.rules(),
        *locks.rules(),
        *packages.rules(),
        *repositories.rules(),
        *sandbox.rules(),
        *tailor.rules(),
    ]
