"""What Pants loads when `opam_oci` is listed in `[GLOBAL].backend_packages`."""

from __future__ import annotations

from typing import Iterable

from pants.engine.target import Target

from opam_oci import (
    dist_links,
    fetch,
    generate_lockfiles,
    host,
    image,
    image_index,
    image_layers,
    image_layout,
    layers,
    locks,
    on_demand,
    packages,
    publish,
    repositories,
    run_image,
    sandbox,
    tailor,
    trace,
    unpublish,
)
from opam_oci.target_types import TARGET_TYPES


def target_types() -> Iterable[type[Target]]:
    return TARGET_TYPES


def rules() -> Iterable[object]:
    return [
        *dist_links.rules(),
        *fetch.rules(),
        *generate_lockfiles.rules(),
        *host.rules(),
        *image.rules(),
        *image_index.rules(),
        *image_layers.rules(),
        *image_layout.rules(),
        *layers.rules(),
        *locks.rules(),
        *on_demand.rules(),
        *packages.rules(),
        *publish.rules(),
        *repositories.rules(),
        *run_image.rules(),
        *sandbox.rules(),
        *tailor.rules(),
        *trace.rules(),
        *unpublish.rules(),
    ]
