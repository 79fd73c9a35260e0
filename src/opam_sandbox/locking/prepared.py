"""Reads what the step `repositories` has prepared: see `repositories`."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Tuple

from opam_sandbox.errors import RequestError, ToolError
from opam_sandbox.locking.repositories import DAMAGED, Packages
from opam_sandbox.locking.requests import BaseFacts
from opam_sandbox.opam.switch import OPAM_ROOT
from opam_sandbox.request import read_request


class Prepared(NamedTuple):
    """`directory`: of `prepared`, whose packages and facts of the base are read."""

    directory: str
    packages: Packages
    base: BaseFacts


def read_prepared(directory: str) -> Prepared:
    """The directory `prepared`. Raises ToolError."""
    path = Path(directory)
    try:
        base: BaseFacts = read_request(str(path / "base.json"), BaseFacts)
        return Prepared(directory, Packages(path / "packages.zip"), base)
    except (RequestError, *DAMAGED) as error:
        raise _unreadable(directory, error) from None


def state_caches(directory: str) -> List[Tuple[str, bytes]]:
    """What opam keeps of the repositories, which may be large: (path in a view, content). Raises ToolError."""
    try:
        files = sorted(Path(directory).glob("state-*.cache"))
        return [(f"{OPAM_ROOT}/repo/{file.name}", file.read_bytes()) for file in files]
    except OSError as error:
        raise _unreadable(directory, error) from None


def _unreadable(directory: str, error: Exception) -> ToolError:
    return ToolError(f"{directory}: what was prepared of the repositories cannot be read: {error}")
