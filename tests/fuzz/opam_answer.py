"""What opam says in the base: its solution, its variables; and requirements as users write them."""

from __future__ import annotations

from typing import List

from opam_sandbox.errors import ToolError
from opam_sandbox.locking import repositories, solve

SEEDS: List[bytes] = [
    b'{"solution": [{"install": {"name": "lwt", "version": "5.6.1"}}, {"remove": {"name": "x"}}]}',
    b"os-family   debian   # Inferred\narch        x86_64 # a # b\njobs\nmake  # none\n",
    b"lwt>=5.6, <6 & != 5.7~beta1",
    b"lwt.5.6.1",
]
TOKENS = [b'"install"', b'{"name": "a", "version": "1"}', b" # ", b">=", b"<", b"!=", b",", b"[", b"{"]


def run(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        solution = solve.read_answer(text)
        assert all(isinstance(one, str) and "/" not in one for pair in solution.items() for one in pair)
    except ToolError:
        pass
    for name, value in repositories.parse_variables(text).items():
        assert name and value
    try:
        name, bounds = solve.parse_requirement(text)
        assert name and solve.roots_opam([text], []) is not None and solve.atoms([text])
    except ToolError:
        pass
