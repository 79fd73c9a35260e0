"""What a request says of how its layers are compressed."""

from __future__ import annotations

from opam_sandbox.errors import RequestError
from opam_sandbox.imaging.requests import CompressionFields
from opam_sandbox.layer.compress import LEVEL, Packing

# The default level, and the levels that there are.
_LEVELS = {"gzip": (LEVEL, range(1, 10)), "zstd": (3, range(1, 20)), "none": (0, range(1))}
CHUNKED = "zstd:chunked"


def read_packing(request: CompressionFields) -> Packing:
    """The request's `compression` and `level` (0: the default). Raises RequestError for a level that there is not.

    What is CHUNKED is zstd, for programs and media types."""
    compression = "zstd" if request["compression"] == CHUNKED else request["compression"]
    default, levels = _LEVELS[compression]
    level = request.get("level", 0) or default
    if level not in levels:
        raise RequestError(f"level: {compression} has the levels {levels[0]} to {levels[-1]}, not {level}")
    return Packing(compression, level)
