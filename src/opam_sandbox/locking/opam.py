"""`lock-opam`: a resolve's lockfile: opam's solution, and every byte that building it needs.

It goes in steps, of which most are the same for many resolves; the request's `step` says which.
"""

from __future__ import annotations

from opam_sandbox.errors import RequestError
from opam_sandbox.locking.indexes import make_indexes
from opam_sandbox.locking.lock import lock
from opam_sandbox.locking.repositories import prepare
from opam_sandbox.locking.solve import solve
from opam_sandbox.request import Request

_STEPS = {"repositories": prepare, "indexes": make_indexes, "solve": solve, "lock": lock}


def run(request: Request, jobs: int) -> int:
    step = request.get("step", str)
    if step not in _STEPS:
        raise RequestError(f"there is no step {step!r}")
    return _STEPS[step](request)
