"""The request of `lock-opam`: that of any of its steps."""

from typing import Union

from opam_sandbox.locking.requests import IndexesRequest, LockRequest, RepositoriesRequest, SolveRequest
from opam_sandbox.locking.root_requests import ListRootsRequest, LockRootsRequest, SolveRootsRequest, SolverRequest

LockOpamRequest = Union[
    RepositoriesRequest,
    IndexesRequest,
    SolveRequest,
    SolverRequest,
    SolveRootsRequest,
    ListRootsRequest,
    LockRequest,
    LockRootsRequest,
]
