"""What Pants loads when `opam_oci` is listed in `[GLOBAL].backend_packages`."""

from __future__ import annotations

from types import ModuleType
from typing import Iterable

from pants.engine.target import Target

from opam_oci import (
    target_types_dependencies,
    target_types_files_rules,
    target_types_projects_rules,
    target_types_rules,
)
from opam_oci.ci import checks as ci_checks
from opam_oci.documenting import docs, selection
from opam_oci.downloads import debian_mirrors, fetch
from opam_oci.entering import environment
from opam_oci.exporting import switch
from opam_oci.goals import (
    export,
    generate_lockfiles,
    kept_output,
    known_lockfiles,
    oci_diff,
    oci_report,
    oci_verify,
    opam_cache,
    opam_ci,
    opam_exec,
    opam_health,
    opam_list,
    opam_log,
    opam_revdeps,
    opam_shell,
    opam_which,
    package_docs,
    package_image,
    package_image_index,
    package_image_layout,
    publish,
    repl,
    run_image,
    run_program,
    tailor,
    unpublish,
)
from opam_oci.health import clock, node, plan
from opam_oci.host import checks, programs
from opam_oci.images import image, packed_layer, parts, plugin_files, runtime_layer, stored_files
from opam_oci.layers import base, base_image, build_logs, build_plan, cached_build, contents, foundation, package
from opam_oci.linting import opam_files
from opam_oci.locking import (
    debian_lockfile,
    opam_health_lockfile,
    opam_inputs,
    opam_lockfile,
    root_solutions,
    solver_layer,
)
from opam_oci.projects import sources
from opam_oci.publishing import claims, image_layout, naming, registry_plan, signing
from opam_oci.resolves import (
    base_images,
    debian_rootfs,
    health_inputs,
    inputs,
    locks,
    opam_repositories,
    package_addresses,
    projects,
    targets,
)
from opam_oci.run_end import dist_links, full_disks, store_size, trace
from opam_oci.sandbox import asked, look, on_demand, tool
from opam_oci.target_types import TARGET_TYPES
from opam_oci.target_types_files import FILE_TARGET_TYPES
from opam_oci.target_types_projects import PROJECT_TARGET_TYPES
from opam_oci.target_types_tests import TEST_TARGET_TYPES
from opam_oci.testing import prepare, run_image_tests, run_tests

# Those that have rules, by their rooms.
_MODULES: tuple[ModuleType, ...] = (
    *(target_types_rules, target_types_dependencies, target_types_files_rules, target_types_projects_rules),
    *(debian_mirrors, fetch),
    *(opam_cache, opam_ci, opam_exec, opam_log, opam_shell, opam_which),
    *(export, generate_lockfiles, known_lockfiles, kept_output),
    *(package_docs, package_image, package_image_index, package_image_layout),
    *(opam_health, opam_list, opam_revdeps),
    *(oci_diff, oci_report, oci_verify),
    *(publish, repl, run_image, run_program, tailor, unpublish),
    *(environment, switch),
    *(docs, selection),
    *(clock, node, plan),
    *(checks, programs),
    *(image, packed_layer, parts, plugin_files, runtime_layer, stored_files),
    *(base, base_image, build_logs, build_plan, cached_build, contents, foundation, package),
    *(debian_lockfile, opam_health_lockfile, opam_inputs, opam_lockfile, root_solutions, solver_layer),
    *(claims, image_layout, naming, registry_plan, signing),
    *(sources,),
    *(
        base_images,
        debian_rootfs,
        health_inputs,
        inputs,
        locks,
        opam_repositories,
        package_addresses,
        projects,
        targets,
    ),
    *(dist_links, full_disks, store_size, trace),
    *(asked, look, on_demand, tool),
    *(ci_checks, opam_files, prepare, run_image_tests, run_tests),
)


def target_types() -> Iterable[type[Target]]:
    """The target types of this backend."""
    return (*TARGET_TYPES, *PROJECT_TARGET_TYPES, *TEST_TARGET_TYPES, *FILE_TARGET_TYPES)


def rules() -> Iterable[object]:
    """The rules of this backend. A rule that several modules import is in there more than once, which Pants allows."""
    return [rule for module in _MODULES for rule in module.rules()]
