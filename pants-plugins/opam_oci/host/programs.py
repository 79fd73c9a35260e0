"""Finds programs of this machine on the user's PATH, and passes his environment on without showing what is in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Iterable, Mapping

from opam_oci.host.checks import TOOL_PATH
from opam_oci.pants_engine.rules import collect_rules, uncacheable_rule


class MissingProgramError(Exception):
    """A program is not there or too old; the message says how to get it."""


class Hidden(str):
    """A string that is not shown where an object that holds it is (Pants logs processes with their environment)."""

    def __repr__(self) -> str:
        return "'***'"


def hidden(env: Mapping[str, str]) -> dict[str, str]:
    """An environment whose values do not show in logs."""
    return {name: Hidden(value) for name, value in env.items()}


def find_program(names: tuple[str, ...], path: str, *, purpose: str, package: str) -> str:
    """The absolute path of the first program of `names` that is on `path`, a PATH. Raises MissingProgramError.

    package: Debian's that has it, "" if none is known.
    """
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    if found is None:
        listed = " or ".join(f"`{name}`" for name in names)
        where = f"which is not on PATH ({path or 'which is empty'})"
        if os.path.isabs(names[0]):
            where = "which is not there"
        advice = f" Install it with `apt-get install {package}` (as root)." if package else ""
        raise MissingProgramError(f"{purpose} needs {listed}, {where}.{advice}")
    return os.path.abspath(found)


def find_python() -> str:
    """The Python that the tool runs on; the same as in builds, whatever the user's PATH says."""
    return find_program(("python3",), TOOL_PATH, purpose="The sandbox tool", package="python3")


def check_version(program: str, minimum: tuple[int, ...], *, package: str, debian: int = 12) -> None:
    """Raise MissingProgramError unless `program --version` says at least `minimum`, which Debian has from release `debian` on."""
    wanted = ".".join(map(str, minimum))
    advice = f"Install a newer one, with `apt-get install {package}` (as root) on Debian {debian} or newer."
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingProgramError(f"`{program} --version` does not run: {error}. {advice}") from None
    match = re.search(r"(\d+(?:\.\d+)+)", done.stdout)
    if done.returncode != 0 or match is None:
        said = (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"
        raise MissingProgramError(f"`{program} --version` names no version ({said[:200]}). {advice}")
    if tuple(map(int, match.group(1).split("."))) < minimum:
        raise MissingProgramError(f"{program} has the version {match.group(1)}, but {wanted} is needed. {advice}")


def env_names(entries: Iterable[str]) -> list[str]:
    """Entries of an option for environment variables (`NAME` or `NAME=value`), sorted."""
    return sorted(set(entries))


@dataclass(frozen=True)
class ProgramRequest:
    """The first of the programs `names` on `path`, a PATH, of at least the version `minimum` (empty: any).

    `purpose` begins the error's sentence, `package` is Debian's that brings it, "" if none is known; it does since the
    release `debian`.
    """

    names: tuple[str, ...]
    path: str
    purpose: str
    package: str
    minimum: tuple[int, ...] = ()
    debian: int = 12


@dataclass(frozen=True)
class ProgramFound:
    """Absolute paths of the program, and of the Python for the tool."""

    path: str
    python: str


# Not cached: what was missing in one run may be installed in the next, under the same daemon.
@uncacheable_rule
async def look_for_program(request: ProgramRequest) -> ProgramFound:
    """Find a program and check its version. Raises MissingProgramError with the Debian package that has it."""
    path = find_program(request.names, request.path, purpose=request.purpose, package=request.package)
    if request.minimum:
        check_version(path, request.minimum, package=request.package, debian=request.debian)
    return ProgramFound(path, find_python())


def rules() -> list[object]:
    return [*collect_rules()]
