"""Compares lockfiles with what BUILD files and options ask for now."""

from __future__ import annotations

import dataclasses

from opam_oci.resolves.debian_rootfs import DebianRootfs
from opam_oci.resolves.health_inputs import HealthInputs
from opam_oci.resolves.health_lock import HealthLock
from opam_oci.resolves.inputs import ResolveInputs
from opam_oci.resolves.lockfile import DebianLock, LockfileError, OpamLock, regenerate_command
from opam_oci.resolves.opam_repositories import RepositoryFingerprints
from opam_oci.resolves.targets import address_text


class StaleLockfileError(LockfileError):
    """A lockfile that was made for other targets or options than there are now."""


@dataclasses.dataclass(frozen=True)
class _Difference:
    """What a lockfile was made for, and what is asked for now."""

    subject: str
    locked: str | tuple[str, ...]
    wanted: str | tuple[str, ...]

    def __str__(self) -> str:
        if isinstance(self.locked, str) or isinstance(self.wanted, str):
            return f"{self.subject}: the lockfile has {self.locked}, the target asks for {self.wanted}"
        added = sorted(set(self.wanted) - set(self.locked))
        removed = sorted(set(self.locked) - set(self.wanted))
        parts = []
        if added:
            parts.append(f"not in the lockfile: {', '.join(added)}")
        if removed:
            parts.append(f"no longer asked for: {', '.join(removed)}")
        if not parts:
            parts.append(f"in another order: {', '.join(self.wanted)}")
        return f"{self.subject}: {'; '.join(parts)}"


def check_fresh(path: str, resolve: str, differences: list[_Difference]) -> None:
    """Raise StaleLockfileError if any of the pairs differ."""
    changed = [d for d in differences if d.locked != d.wanted]
    if changed:
        listed = "".join(f"\n  * {d}" for d in changed)
        raise StaleLockfileError(
            path, f"it is out of date.{listed}\nBring it up to date with `{regenerate_command(resolve)}`."
        )


def check_debian_lock_fresh(lock: DebianLock, rootfs: DebianRootfs) -> None:
    """Raise StaleLockfileError if the lockfile was made for a target with other fields."""
    check_fresh(
        lock.path,
        lock.resolve,
        [
            _Difference("suite", lock.suite, rootfs.suite),
            _Difference("architecture", lock.architecture, rootfs.architecture),
            _Difference("packages", tuple(sorted(set(lock.packages))), rootfs.packages),
        ],
    )


def check_health_lock_fresh(lock: HealthLock, inputs: HealthInputs, fingerprints: RepositoryFingerprints) -> None:
    """Raise StaleLockfileError if the lockfile was made for another check, other repositories or another base."""
    check_fresh(
        lock.path,
        lock.resolve,
        [
            _Difference("packages", lock.packages, inputs.packages),
            _Difference("latest", str(lock.latest), str(inputs.latest)),
            _Difference("compilers", lock.compilers, inputs.compilers),
            _Difference("constraints", lock.constraints, inputs.constraints),
            _Difference("base", lock.base, address_text(inputs.base)),
            _Difference("options", lock.options, inputs.options.lines()),
            _Difference("repositories", lock.repositories, fingerprints.lines),
        ],
    )


def check_opam_lock_fresh(lock: OpamLock, inputs: ResolveInputs, fingerprints: RepositoryFingerprints | None) -> None:
    """Raise StaleLockfileError if the lockfile was made for other roots, bounds, options, repositories or another base.

    `fingerprints`: None leaves the repositories out. So does a lockfile that does not say for which it was made.
    """
    differences = [
        _Difference("requirements", tuple(sorted(lock.requirements)), inputs.requirements),
        _Difference("constraints", tuple(sorted(lock.constraints)), inputs.constraints),
        _Difference("base", lock.base, address_text(inputs.base)),
        _Difference("options", lock.options, inputs.options.lines()),
        _Difference("opam files", lock.opam_files, tuple(file.line() for file in inputs.opam_files)),
        _Difference(
            "opam files of packages to build",
            tuple(sorted(package.local for package in lock.packages.values() if package.local)),
            tuple(file.path for file in inputs.opam_files if file.build),
        ),
    ]
    if lock.repositories is not None and fingerprints is not None:
        differences.append(_Difference("repositories", lock.repositories, fingerprints.lines))
    check_fresh(lock.path, lock.resolve, differences)
