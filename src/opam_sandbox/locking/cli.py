"""The command line of the part `locking`."""

from __future__ import annotations

from typing import List, Optional

from opam_sandbox import cli
from opam_sandbox.cli import Command
from opam_sandbox.locking.opam_steps import LockOpamRequest
from opam_sandbox.locking.requests import LockDebianRequest

COMMANDS = {
    "lock-debian": Command(
        "opam_sandbox.locking.lock_debian", LockDebianRequest, "resolve a base's packages to .debs (uses the network)"
    ),
    "lock-opam": Command(
        "opam_sandbox.locking.lock_opam",
        LockOpamRequest,
        "solve requirements and lock every byte they need (uses the network)",
    ),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; `arguments` are the process's own by default. Returns the exit status."""
    return cli.run("Makes lockfiles.", COMMANDS, arguments)
