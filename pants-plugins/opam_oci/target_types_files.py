"""Targets that nobody writes: they own the files which options name, so that a change of one touches what is made of it.

Pants makes them out of `[opam].resolves`, `[debian].resolves` and `[opam].repositories`; see target_types_files_rules.py.
"""

from __future__ import annotations

import posixpath
import re
from typing import Mapping

from pants.core.target_types import LockfilesGeneratorSourcesField, LockfileSourceField
from pants.engine.addresses import Address
from pants.engine.target import COMMON_TARGET_FIELDS, Dependencies, Target
from pants.util.strutil import help_text

from opam_oci.fields.opam import OpamResolveField

# What a target owns, as its name says it.
OPAM_LOCKFILE = "opam_lockfile"
DEBIAN_LOCKFILE = "debian_lockfile"
OPAM_REPOSITORY = "opam_repository"
OPAM_HEALTH_LOCKFILE = "opam_health_lockfile"


class OpamLockfileSourceField(LockfileSourceField):
    help = "The lockfile of an opam resolve."


class OpamLockfileDependenciesField(Dependencies):
    help = help_text(
        """
        What the lockfile is solved from: the resolve's `opam_requirement` targets, the opam files of its `opam_project` targets,
        and the opam repositories.
        """
    )


class OpamHealthLockfileSourceField(LockfileSourceField):
    help = "The lockfile of a health check."


class DebianLockfileSourceField(LockfileSourceField):
    help = "The lockfile of a base."


class OpamRepositorySourcesField(LockfilesGeneratorSourcesField):
    uses_source_roots = False
    help = "All files of an opam repository in the build root."


class OpamLockfileTarget(Target):
    alias = "_opam_lockfile"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        OpamLockfileSourceField,
        OpamResolveField,
        OpamLockfileDependenciesField,
    )
    help = help_text(
        """
        The lockfile of an opam resolve. Pants makes this target out of `[opam].resolves`: every `opam_package` of the
        resolve depends on it.
        """
    )


class OpamHealthLockfileTarget(Target):
    alias = "_opam_health_lockfile"
    core_fields = (*COMMON_TARGET_FIELDS, OpamHealthLockfileSourceField)
    help = help_text(
        """
        The lockfile of a health check. Pants makes this target out of `[opam-health].resolves`: the `opam_health_check` of the
        resolve depends on it.
        """
    )


class DebianLockfileTarget(Target):
    alias = "_debian_lockfile"
    core_fields = (*COMMON_TARGET_FIELDS, DebianLockfileSourceField)
    help = help_text(
        """
        The lockfile of a base. Pants makes this target out of `[debian].resolves`: the base's `debian_rootfs` depends on
        it.
        """
    )


class OpamRepositoryTarget(Target):
    alias = "_opam_repository"
    core_fields = (*COMMON_TARGET_FIELDS, OpamRepositorySourcesField)
    help = help_text(
        """
        An opam repository in the build root. Pants makes this target out of `[opam].repositories`: every opam lockfile
        depends on it.
        """
    )


FILE_TARGET_TYPES = (OpamLockfileTarget, OpamHealthLockfileTarget, DebianLockfileTarget, OpamRepositoryTarget)


def path_in_build_root(path: str) -> str:
    """The path in its shortest form; "" for one that no target can own, as it is outside of the build root or a glob."""
    short = posixpath.normpath(path)
    outside = short in (".", "..") or short.startswith(("/", "../"))
    return "" if outside or re.search(r"[*?\[\]{}!\\]", short) else short


def file_target_name(kind: str, name: str) -> str:
    """A target's name out of a resolve's or repository's, which may hold what targets' names must not."""
    safe = re.sub(r"[^A-Za-z0-9_.+-]", lambda match: f"%{ord(match[0]):x}%", name)
    return f"_{kind}_{safe}"


def file_target_address(kind: str, name: str, path: str) -> Address:
    """The address of the target that owns a file, or a directory, of the build root. `path` is in its shortest form."""
    return Address(posixpath.dirname(path), target_name=file_target_name(kind, name))


def addresses_of_lockfile(kind: str, resolve: str, resolves: Mapping[str, str]) -> list[Address]:
    """The address of the target that owns a resolve's lockfile; none where no target can."""
    path = path_in_build_root(resolves.get(resolve, ""))
    return [file_target_address(kind, resolve, path)] if path else []
