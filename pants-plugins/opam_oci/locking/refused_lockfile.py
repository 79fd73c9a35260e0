"""A lockfile that cannot be made, among others that can.

Pants writes all lockfiles of a run at once, and none where one raises. So one that cannot be made is a result like the
others, with nothing in it, and its error is raised when Pants comes to print what changed, which is after it has written the
others.
"""

from __future__ import annotations

from typing import Any

from pants.core.goals.generate_lockfiles import GenerateLockfileResult, LockfileDiff, LockfilePackages
from pants.engine.fs import EMPTY_DIGEST

from opam_oci.locking.steps import LockError


class _Raises:
    """Of a change: looking at it raises the error."""

    def __init__(self, error: str) -> None:
        self._error = error

    def __bool__(self) -> bool:
        raise LockError(self._error)


def refused(resolve: str, path: str, error: str) -> GenerateLockfileResult:
    """The result for a lockfile that could not be made; what is at `path` stays as it is."""
    nothing = LockfilePackages({})
    change: Any = _Raises(f"{error}\n\n{path} was not written. The run's other lockfiles were.")
    return GenerateLockfileResult(
        EMPTY_DIGEST,
        resolve,
        f"{path} (no: it failed, and the file is as it was; see below)",
        LockfileDiff(path, resolve, nothing, change, nothing, nothing, change),
    )
