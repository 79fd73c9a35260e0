"""`lock-opam`: a resolve's lockfile: opam's solution, and every byte that building it needs.

It goes in steps, of which most are the same for many resolves; the request's `step` says which.
"""

from __future__ import annotations

from opam_sandbox.locking.indexes import make_indexes
from opam_sandbox.locking.list_roots import list_roots
from opam_sandbox.locking.opam_steps import LockOpamRequest
from opam_sandbox.locking.repositories import prepare
from opam_sandbox.locking.root_solver import lock_solver
from opam_sandbox.locking.solve import solve
from opam_sandbox.locking.solve_roots import solve_roots
from opam_sandbox.locking.write_lockfile import lock
from opam_sandbox.locking.write_roots_lockfile import lock_roots


def run(request: LockOpamRequest, jobs: int) -> int:
    """Take one step. Returns the exit status; raises ToolError."""
    if request["step"] == "repositories":
        return prepare(request)
    if request["step"] == "indexes":
        return make_indexes(request)
    if request["step"] == "solve":
        return solve(request)
    if request["step"] == "lock-roots":
        return lock_roots(request)
    if request["step"] == "solver":
        return lock_solver(request)
    if request["step"] == "solve-roots":
        return solve_roots(request, jobs)
    if request["step"] == "list-roots":
        return list_roots(request, jobs)
    return lock(request)
