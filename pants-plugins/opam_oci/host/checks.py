"""Looks for what building layers needs of this machine, before any work starts."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from opam_oci.pants_engine.rules import collect_rules, implicitly, uncacheable_rule
from opam_oci.subsystems.opam import OpamSubsystem


@dataclass(frozen=True)
class HostCheckRequest:
    """Asks what keeps this machine from building layers, from making a `base`, and from making a `lock`."""

    base: bool
    lock: bool


@dataclass(frozen=True)
class HostCheck:
    """One sentence per thing that is missing, with its remedy; empty when all is there."""

    problems: tuple[str, ...]


# The PATH that processes run with: it decides what they find, not the PATH of whoever starts Pants.
TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Programs with their Debian packages: what a base is made with, what is needed for it without root's rights, and what
# lockfiles are made with.
_BASE_PROGRAMS = {"mmdebstrap": "mmdebstrap", "apt-get": "apt", "dpkg-deb": "dpkg"}

_ROOTLESS_PROGRAMS = {"newuidmap": "uidmap", "newgidmap": "uidmap"}

_LOCK_PROGRAMS = {"apt-get": "apt", "gpgv": "gpgv"}


class MissingHostToolsError(Exception):
    """This machine cannot build layers; the message says what is missing and how to get it."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        listed = "".join(f"\n  * {problem}" for problem in problems)
        super().__init__(
            f"This machine lacks what building image layers needs:{listed}\n"
            "Nothing was downloaded or built. (Where all layers come from a remote cache or remote workers, set "
            "`[opam].check_host` to false.)"
        )


@dataclass(frozen=True)
class Host:
    """A machine as the checks see it."""

    user: str
    uid: int
    which: Callable[[str], Optional[str]]
    root: Path = Path("/")

    def number(self, name: str) -> int | None:
        """The number in a file below /proc/sys, or None where the kernel has no such setting."""
        try:
            return int((self.root / "proc/sys" / name).read_text())
        except (OSError, ValueError):
            return None

    def has_subordinate_ids(self, file: str) -> bool:
        """Whether a user has a range of sub-ids in a file such as /etc/subuid."""
        try:
            lines = (self.root / "etc" / file).read_text().splitlines()
        except OSError:
            return False
        return any(line.split(":")[0] in (self.user, str(self.uid)) for line in lines)


def this_host() -> Host:
    """What this machine has."""
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Host(user=user, uid=uid, which=lambda name: shutil.which(name, path=TOOL_PATH))


def problems_of(host: Host, *, base: bool, lock: bool = False) -> tuple[str, ...]:
    """What is missing, one sentence each, to build packages, to make a `base` and to make a `lock`."""
    problems: list[str] = []
    programs = {"python3": "python3"}
    if base:
        programs.update(_BASE_PROGRAMS)
        if host.uid != 0:
            programs.update(_ROOTLESS_PROGRAMS)
    if lock:
        programs.update(_LOCK_PROGRAMS)
    missing = {program: package for program, package in programs.items() if not host.which(program)}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        problems.append(
            f"no {' and no '.join(missing)} in {TOOL_PATH}: install with `apt-get install {packages}` (as root)."
        )
    if host.uid != 0:
        if base:
            problems.extend(
                f"no line for the user {host.user} in /etc/{file}: add one with "
                f"`usermod {option} 100000-165535 {host.user}` (as root)."
                for file, option in (("subuid", "--add-subuids"), ("subgid", "--add-subgids"))
                if not host.has_subordinate_ids(file)
            )
        problems.extend(
            f"the kernel gives no user namespaces to normal users, as {setting.replace('/', '.')} is 0: set it with "
            f"`sysctl -w {setting.replace('/', '.')}={enough}` (as root), or run as root."
            for setting, enough in (("kernel/unprivileged_userns_clone", 1), ("user/max_user_namespaces", 10000))
            if host.number(setting) == 0
        )
    return tuple(problems)


# Not cached: what was missing in one run may be installed in the next, under the same daemon.
@uncacheable_rule
async def check_host(request: HostCheckRequest) -> HostCheck:
    """Look at this machine, once per run."""
    return HostCheck(problems_of(this_host(), base=request.base, lock=request.lock))


async def require_host(opam: OpamSubsystem, *, lock: bool = False) -> None:
    """Raise MissingHostToolsError where this machine lacks what building needs, or with `lock` also what locking does."""
    if opam.check_host:
        host = await check_host(HostCheckRequest(base=True, lock=lock), **implicitly())
        if host.problems:
            raise MissingHostToolsError(host.problems)


def rules() -> list[object]:
    return [*collect_rules()]
