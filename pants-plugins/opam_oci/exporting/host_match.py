"""Whether a base's programs run on this machine: what can be told before anything is built."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass

from opam_oci.resolves.lockfile import DebianLock

# Debian's names of architectures, by the kernel's of machines that run them.
_MACHINES = {
    "amd64": ("x86_64",),
    "arm64": ("aarch64",),
    "armhf": ("armv7l", "armv8l"),
    "i386": ("i386", "i486", "i586", "i686"),
    "ppc64el": ("ppc64le",),
    "riscv64": ("riscv64",),
    "s390x": ("s390x",),
}

_LIBC = "libc6"


class ExportHostError(Exception):
    """Packages of a resolve do not run on this machine, or not where they are to be exported; the message names the way out."""


@dataclass(frozen=True)
class ExportHost:
    """A machine as the check sees it. libc: as getconf says it, "glibc 2.41"; "" for another C library than GNU's."""

    machine: str
    libc: str


def this_export_host() -> ExportHost:
    """This machine."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        libc = ""
    return ExportHost(platform.machine(), libc)


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 2.41 of "2.41-12+deb13u1", or of "glibc 2.41"."""
    found = re.search(r"\d+(?:\.\d+)+", version)
    return tuple(map(int, found.group().split("."))) if found else ()


def host_problem(lock: DebianLock, host: ExportHost) -> str:
    """Why programs of a base do not run on a machine, as a clause; "" if they may.

    A program needs a C library that is at least as new as the one it was linked with, as newer ones keep what older ones have.
    Which Debian, or whether it is one, does not count.
    """
    if host.machine not in _MACHINES.get(lock.architecture, (lock.architecture,)):
        return f"it is {host.machine}, and they are for {lock.architecture}"
    deb = lock.debs.get(_LIBC)
    if deb is None:
        return f"{lock.path} does not say which C library they need (it has no {_LIBC})"
    needed = _release(deb.version)
    if not host.libc.startswith("glibc "):
        return "its C library is not the GNU one (glibc), which they need"
    if _release(host.libc) < needed:
        return f"its C library is {host.libc}, and they need glibc {'.'.join(map(str, needed))} or newer"
    return ""


def check_host_matches(resolve: str, base: str, lock: DebianLock, host: ExportHost) -> None:
    """Raise ExportHostError where the resolve's packages do not run on a machine. base: an address."""
    problem = host_problem(lock, host)
    if problem:
        raise ExportHostError(
            f"The packages of the opam resolve `{resolve}` do not run on this machine: {problem}. They are built in the base "
            f"{base}, Debian {lock.suite} for {lock.architecture}.\nUse them in their sandbox, with `pants opam-exec`; or "
            "export on a machine like the base, or with `--no-opam-export-check-host` for one that has the build root at the "
            "same path. Nothing was built or written."
        )
