"""What Pants loads when `opam_oci` is listed in `[GLOBAL].backend_packages`."""

from __future__ import annotations

from types import ModuleType
from typing import Iterable

from pants.engine.target import Target

from opam_oci import target_types_dependencies, target_types_files_rules, target_types_rules
from opam_oci.downloads import debian_mirrors, fetch
from opam_oci.goals import (
    generate_lockfiles,
    kept_output,
    opam_cache,
    package_image,
    package_image_index,
    package_image_layout,
    publish,
    run_image,
    tailor,
    unpublish,
)
from opam_oci.host import checks, programs
from opam_oci.images import image, packed_layer, parts, runtime_layer, stored_files
from opam_oci.layers import base, build_logs, build_plan, foundation, package
from opam_oci.locking import debian_lockfile, opam_inputs, opam_lockfile
from opam_oci.publishing import claims, image_layout, naming
from opam_oci.resolves import debian_rootfs, inputs, locks, opam_repositories, targets
from opam_oci.run_end import dist_links, full_disks, store_size, trace
from opam_oci.sandbox import on_demand, tool
from opam_oci.target_types import TARGET_TYPES
from opam_oci.target_types_files import FILE_TARGET_TYPES

# Those that have rules, by their rooms.
_MODULES: tuple[ModuleType, ...] = (
    *(target_types_rules, target_types_dependencies, target_types_files_rules),
    *(debian_mirrors, fetch),
    *(generate_lockfiles, kept_output, opam_cache, package_image, package_image_index, package_image_layout),
    *(publish, run_image, tailor, unpublish),
    *(checks, programs),
    *(image, packed_layer, parts, runtime_layer, stored_files),
    *(base, build_logs, build_plan, foundation, package),
    *(debian_lockfile, opam_inputs, opam_lockfile),
    *(claims, image_layout, naming),
    *(debian_rootfs, inputs, locks, opam_repositories, targets),
    *(dist_links, full_disks, store_size, trace),
    *(on_demand, tool),
)


def target_types() -> Iterable[type[Target]]:
    """The target types of this backend."""
    return (*TARGET_TYPES, *FILE_TARGET_TYPES)


def rules() -> Iterable[object]:
    """The rules of this backend. A rule that several modules import is in there more than once, which Pants allows."""
    return [rule for module in _MODULES for rule in module.rules()]
