"""What a request says of how its layers are compressed."""

from __future__ import annotations

from opam_sandbox.compress import LEVEL, Packing
from opam_sandbox.errors import RequestError
from opam_sandbox.request import Request

# The default level, and the levels that there are.
_LEVELS = {"gzip": (LEVEL, range(1, 10)), "zstd": (3, range(1, 20)), "none": (0, range(1))}


def read_packing(request: Request) -> Packing:
    """The request's `compression` and `level` (0: the default). Raises RequestError for what there is not."""
    compression = request.get("compression", str)
    if compression not in _LEVELS:
        raise RequestError(f"compression: there is no {compression!r}, only {', '.join(_LEVELS)}")
    default, levels = _LEVELS[compression]
    level = request.get_or("level", 0) or default
    if level not in levels:
        raise RequestError(f"level: {compression} has the levels {levels[0]} to {levels[-1]}, not {level}")
    return Packing(compression, level)
